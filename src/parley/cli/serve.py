"""`parley serve`: engines, workers and listening sockets under one supervisor, in this process.

It imports neither the application nor any SDK: the workers do that while the engines start.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import parley
from parley.cli.banner import Started, show
from parley.cli.errors import tell
from parley.core.embedded.child import Child
from parley.core.embedded.counts import VARIABLE, counts_folder
from parley.core.embedded.engines import PlacedEngines, placed_engines
from parley.core.embedded.errors import EmbeddedError, FolderInUseError
from parley.core.embedded.folder import find_data_folder
from parley.core.embedded.listeners import Listeners, ListenOptions, open_listeners
from parley.core.embedded.lock import read_holder
from parley.core.embedded.postgres import MAX_CONNECTIONS
from parley.core.embedded.rolling import Rolling
from parley.core.embedded.sources import source_changes
from parley.core.embedded.supervisor import Supervisor
from parley.core.embedded.worker import Worker
from parley.settings import EMBEDDED_MARK, Settings, SettingsError, load

WORKER_MODULE = "parley.cli.worker"
DEMO_MODULE, DEMO_NAME = "parley.agents.demo", "demo"
DEMO_GRACEFUL_S = 1.0
EMBEDDED_WORKERS = 2
BANNER_AFTER_S = 10.0  # whoever waits this long wants to know for what
COMMAND_TIMEOUT_S = 10.0
DYING_WORKERS_S = 2.5
POLL_S = 0.1
RESERVED_CONNECTIONS = 40  # besides the workers' pools: psql, migrations, tests
FOLDER_IN_USE = 3


def serve(  # noqa: PLR0917  # typer calls it by name
    host: Annotated[str | None, typer.Option(help="Address to listen on. [PARLEY_HOST, else 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one. [PARLEY_PORT, else 8000]")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes. [PARLEY_WORKERS, else 2 or 1]")] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Replace the workers when a source file changes.")] = False,
    max_requests: Annotated[
        int | None, typer.Option(help="Replace a worker after so many requests. [PARLEY_MAX_REQUESTS, else never]")
    ] = None,
    max_rss_mb: Annotated[
        int | None, typer.Option(help="Replace a worker above so much memory. [PARLEY_MAX_RSS_MB, else never]")
    ] = None,
) -> None:
    """Run the service, with its own PostgreSQL and Valkey where no URL names others.

    Exit codes: 0 stopped as asked, 1 could not start (one line says why), 3 the data folder is in use.
    """
    began = time.monotonic()
    try:
        settings = load(
            env_file=Path(".env"),
            host=host,
            port=port,
            workers=workers,
            max_requests=max_requests,
            max_rss_mb=max_rss_mb,
        )
        for name in settings.unknown:
            say(f"unknown setting {name}")
        service = Service(settings, began, reload=reload)
        asyncio.run(service.run())
    except FolderInUseError as error:
        tell(str(error))
        raise typer.Exit(FOLDER_IN_USE) from None


def say(line: str) -> None:
    """Tell the person at the terminal; whoever stopped reading does not stop the service."""
    with suppress(OSError):
        print(f"parley: {line}", file=sys.stderr, flush=True)


class Service:
    """One run of `parley serve`, from the lock of the data folder to the last child's end."""

    def __init__(self, settings: Settings, began: float, *, reload: bool) -> None:
        if reload and settings.server.is_production:
            raise SettingsError("--reload is for development, not for production")
        self._settings = settings
        self._began = began
        self._reload = reload
        self._with_postgres = settings.database.url is None
        self._with_valkey = settings.redis.url is None
        default = EMBEDDED_WORKERS if self._is_embedded else 1
        self._worker_count = settings.server.workers or default
        self._folder = find_data_folder(settings.server.data_dir)
        self._stop, self._renew = asyncio.Event(), asyncio.Event()
        self._has_terminal = _has_terminal()
        self._demo: socket.socket | None = None
        self._rolling: Rolling | None = None
        self._counts: Path | None = None

    @property
    def _is_embedded(self) -> bool:
        return self._with_postgres or self._with_valkey

    async def run(self) -> None:
        """Serve until a signal says stop; raise EmbeddedError where that cannot begin."""
        supervisor = Supervisor(say)
        self._listen_to_signals(supervisor)
        with ExitStack() as stack:
            placed = await self._place_engines(stack) if self._is_embedded else None
            server = self._settings.server
            options = ListenOptions(server.tcp_user_timeout_ms, server.send_buffer_bytes)
            listeners = await self._listen(options, is_takeover=placed is not None and placed.is_takeover)
            stack.callback(listeners.close)
            if self._settings.agents.is_demo:
                self._demo = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            self._counts = stack.enter_context(counts_folder(self._folder, is_production=server.is_production))
            async with supervisor:
                await self._supervise(supervisor, listeners, placed)

    async def _supervise(self, supervisor: Supervisor, listeners: Listeners, placed: PlacedEngines | None) -> None:
        # Side by side: a worker's imports take longer than the start of an engine.
        workers = [supervisor.start(worker) for worker in self._workers(listeners, placed)]
        demo = [supervisor.start(self._demo_model(self._demo))] if self._demo else []
        engines: list[Child] = []
        helpers = [asyncio.create_task(self._announce(workers, engines, listeners, placed), name="banner")]
        self._rolling = rolling = Rolling(workers, self._renew, say, self._settings.server.replace_timeout_s)
        helpers.append(asyncio.create_task(rolling.run(), name="replacing of workers"))
        helpers.append(asyncio.create_task(rolling.run_spent(), name="replacing of spent workers"))
        if self._reload:
            helpers.append(asyncio.create_task(self._replace_on_change(), name="reload"))
        try:
            if placed:
                start = _start_engines(placed, supervisor, engines, listeners.address)
                await self._unless_stopped(asyncio.create_task(start, name="start of the engines"))
            await self._stop.wait()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            listeners.close()  # from here on the port is free, as far as it is up to us
        await supervisor.stop(workers)
        await supervisor.stop([*demo, *engines])

    async def _place_engines(self, stack: ExitStack) -> PlacedEngines:
        pool = self._settings.database.pool_size + self._settings.database.pool_overflow
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while True:
            try:
                return stack.enter_context(
                    placed_engines(
                        self._folder,
                        "serve",
                        with_postgres=self._with_postgres,
                        with_valkey=self._with_valkey,
                        max_connections=max(MAX_CONNECTIONS, self._worker_count * pool + RESERVED_CONNECTIONS),
                    )
                )
            except FolderInUseError:
                # A command like `parley migrate` has the engines for a moment only.
                if read_holder(self._folder)[1] != "command" or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(POLL_S)

    async def _listen(self, options: ListenOptions, *, is_takeover: bool) -> Listeners:
        server = self._settings.server
        deadline = time.monotonic() + (DYING_WORKERS_S if is_takeover else 0.0)
        while True:
            try:
                return open_listeners(server.host, server.port, self._worker_count, options)
            except EmbeddedError:
                # The workers of a killed parent have the port until they are gone as well.
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(POLL_S)

    def _workers(self, listeners: Listeners, placed: PlacedEngines | None) -> list[Worker]:
        environ = self._worker_environ(placed)
        graceful_s = self._settings.server.graceful_s
        return [
            Worker(
                f"worker {number + 1}",
                WORKER_MODULE,
                sockets,
                environ,
                graceful_s=graceful_s,
                neighbours=listeners.of_others(number),
                on_spent=self._tell_spent,
            )
            for number, sockets in enumerate(listeners.of_worker)
        ]

    def _tell_spent(self, name: str) -> None:
        if self._rolling is not None:
            say(f"{name} has done enough; starting another")
            self._rolling.tell_spent(name)

    def _demo_model(self, listener: socket.socket) -> Worker:
        """Return the demo model: a provider like any other to the workers, on a port of this machine."""
        return Worker("demo model", DEMO_MODULE, [listener], os.environ, graceful_s=DEMO_GRACEFUL_S)

    def _worker_environ(self, placed: PlacedEngines | None) -> dict[str, str]:
        """Return what a worker sees: our environment, what the command line said, and where our engines are."""
        server = self._settings.server
        environ = {**os.environ, "PARLEY_HOST": server.host, "PARLEY_PORT": str(server.port)}
        environ["PARLEY_WORKERS"] = str(self._worker_count)
        bounds = {"PARLEY_MAX_REQUESTS": server.max_requests, "PARLEY_MAX_RSS_MB": server.max_rss_mb}
        environ |= {name: str(most) for name, most in bounds.items() if most is not None}
        environ[VARIABLE] = str(self._counts)
        environ.pop(EMBEDDED_MARK, None)
        if not server.is_production:
            environ["PARLEY_DATA_DIR"] = str(self._folder.path)
        if placed and placed.note.database_url:
            # The mark stands for the database alone: it also allows to migrate without being asked.
            environ |= {"PARLEY_DATABASE_URL": placed.note.database_url, EMBEDDED_MARK: "1"}
        if self._demo:
            port = self._demo.getsockname()[1]
            environ |= {"PARLEY_MODEL_BASE_URL": f"http://127.0.0.1:{port}/v1", "PARLEY_MODEL_NAME": DEMO_NAME}
        if placed and placed.note.redis_url:
            environ["PARLEY_REDIS_URL"] = placed.note.redis_url
        return environ

    def _listen_to_signals(self, supervisor: Supervisor) -> None:
        def renew() -> None:
            if self._has_terminal and not _has_terminal():
                self._stop.set()  # its window was closed
            else:
                self._renew.set()

        def stop(number: signal.Signals) -> None:
            if self._stop.is_set() and number == signal.SIGINT:
                supervisor.hurry()
            self._stop.set()

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, renew)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)

    async def _unless_stopped(self, starting: asyncio.Task[None]) -> None:
        """Wait for a first start, which is given up when we are told to stop in the middle of it."""
        stopped = asyncio.create_task(self._stop.wait(), name="stop during the start")
        try:
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not starting.done():
                starting.cancel()
            await asyncio.gather(stopped, return_exceptions=True)
        with suppress(asyncio.CancelledError):
            await starting

    async def _announce(
        self, workers: Sequence[Child], engines: Sequence[Child], listeners: Listeners, placed: PlacedEngines | None
    ) -> None:
        """Print the banner when all are ready, or once when that takes long and again when it is done."""
        expected = [
            *(program.name for program in (placed.engines if placed else ())),
            *(w.program.name for w in workers),
        ]
        numbers = iter(await asyncio.gather(*(engine.version() for engine in (placed.engines if placed else ()))))
        database = f"embedded PostgreSQL {next(numbers)}".rstrip() if self._with_postgres else None
        redis = f"embedded Valkey {next(numbers)}".rstrip() if self._with_valkey else None
        for timeout_s in (BANNER_AFTER_S, None):
            with suppress(TimeoutError):
                await asyncio.wait_for(_all_ready(workers, engines, len(expected)), timeout_s)
            ready = {child.program.name for child in (*engines, *workers) if child.ready.is_set()}
            started = Started(
                address=listeners.address,
                workers=self._worker_count,
                seconds=time.monotonic() - self._began,
                database=database,
                redis=redis,
                data_folder=str(self._folder.path) if placed else None,
                missing=[name for name in expected if name not in ready],
            )
            with suppress(OSError):
                show(Console(), self._settings, started)
            if not started.missing:
                return

    async def _replace_on_change(self) -> None:
        async for changed in source_changes(Path(parley.__file__).parent):
            say(f"{changed.name} changed; replacing the workers")
            self._renew.set()


def _has_terminal() -> bool:
    return any(os.isatty(number) for number in range(3))


async def _start_engines(placed: PlacedEngines, supervisor: Supervisor, engines: list[Child], address: str) -> None:
    """Start them, and let other commands use them once they answer, however long that takes."""
    await placed.start(supervisor, engines)
    for engine in engines:
        await engine.ready.wait()
    placed.tell_ready(address)


async def _all_ready(workers: Sequence[Child], engines: Sequence[Child], count: int) -> None:
    """Return once all are ready; `engines` is filled as they are started."""
    for worker in workers:
        await worker.ready.wait()
    while len(workers) + len(engines) < count:  # noqa: ASYNC110  # once in a life, while a cluster is being made
        await asyncio.sleep(POLL_S)
    for engine in engines:
        await engine.ready.wait()
