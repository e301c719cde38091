"""Opens the embedded engines for as long as somebody needs them, or attaches to those of a running `parley serve`."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from parley.core.embedded.binaries import valkey_server
from parley.core.embedded.child import Child, Say
from parley.core.embedded.errors import EmbeddedError, FolderInUseError
from parley.core.embedded.folder import DataFolder
from parley.core.embedded.lock import (
    FolderLock,
    Kind,
    Running,
    find_running,
    take_folder,
)
from parley.core.embedded.placement import place_postgres, place_valkey, remove_temporary_folders
from parley.core.embedded.postgres import MAX_CONNECTIONS, Postgres
from parley.core.embedded.supervisor import Supervisor
from parley.core.embedded.valkey import Valkey

READY_TIMEOUT_S = 60.0  # a cluster that has to recover takes its time
HOLDER_TIMEOUT_S = 30.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Engines:
    """Where the engines are; None for one that was not asked for."""

    database_url: str | None
    redis_url: str | None


@dataclass(frozen=True, slots=True)
class PlacedEngines:
    """Engines whose places are settled and that are not started yet, in a folder that is held."""

    lock: FolderLock
    postgres: Postgres | None
    valkey: Valkey | None
    note: Running
    is_takeover: bool
    """Whether whoever held the folder before could not clean up."""

    @property
    def engines(self) -> Sequence[Postgres | Valkey]:
        return [engine for engine in (self.postgres, self.valkey) if engine]

    def tell_ready(self, address: str) -> None:
        """Let other commands use the engines, and know where the service is."""
        self.lock.tell(replace(self.note, address=address, is_ready=True))

    @property
    def urls(self) -> Engines:
        return Engines(self.note.database_url, self.note.redis_url)

    async def start(self, supervisor: Supervisor, started: list[Child]) -> None:
        """Start them without waiting for them, adding to `started`; only a cluster that is missing is made first."""
        if self.valkey:
            started.append(supervisor.start(self.valkey))
        if self.postgres:
            await self.postgres.initialise()
            started.append(supervisor.start(self.postgres))


@contextmanager
def placed_engines(
    folder: DataFolder,
    kind: Kind,
    *,
    fast: bool = False,
    with_postgres: bool = True,
    with_valkey: bool = True,
    max_connections: int = MAX_CONNECTIONS,
) -> Iterator[PlacedEngines]:
    """Hold the data folder and settle where the engines go. Blocks a little: not for a loop that serves."""
    lock = take_folder(folder, kind)
    temporary: list[str] = []
    try:
        predecessor = find_running(folder)
        remove_temporary_folders([Path(name) for name in predecessor.temporary_folders] if predecessor else [])
        lock.tell(Running(os.getpid(), kind))  # from here on nobody believes what the predecessor told
        postgres = valkey = None
        if with_postgres:
            place = place_postgres(folder)
            temporary += [str(place.socket_folder)] if place.socket_folder != place.cluster else []
            postgres = Postgres(place, fast=fast, max_connections=max_connections)
        if with_valkey:
            home = place_valkey(folder)
            temporary += [str(home.socket.parent)] if home.socket.parent != home.folder else []
            valkey = Valkey(home, valkey_server(), fast=fast)
        note = Running(
            os.getpid(),
            kind,
            database_url=postgres.url if postgres else None,
            redis_url=valkey.url if valkey else None,
            temporary_folders=tuple(temporary),
        )
        lock.tell(note)
        yield PlacedEngines(lock, postgres, valkey, note, is_takeover=predecessor is not None)
    finally:
        remove_temporary_folders([Path(name) for name in temporary])
        lock.release()


@asynccontextmanager
async def open_engines(folder: DataFolder, *, fast: bool = False, say: Say | None = None) -> AsyncIterator[Engines]:
    """Start both engines in this folder, give where they are once they answer, and end them at the end.

    `fast` gives up durability and is for tests alone. Call it from the main thread: engines end with their thread.
    """
    with placed_engines(folder, "command", fast=fast) as placed:
        async with Supervisor(say or _say_nothing) as supervisor:
            children: list[Child] = []
            await placed.start(supervisor, children)
            await wait_ready(children)
            yield placed.urls


@asynccontextmanager
async def attached_or_started(folder: DataFolder) -> AsyncIterator[Engines]:
    """Give the engines of the `parley serve` that runs in this folder, or start them for the moment."""
    async with AsyncExitStack() as stack:
        yield await _attach_or_start(stack, folder)


async def wait_ready(children: Sequence[Child], timeout_s: float = READY_TIMEOUT_S) -> None:
    """Return once all of them are ready; raise EmbeddedError naming the first that is not in time."""
    try:
        async with asyncio.timeout(timeout_s):
            for child in children:
                await child.ready.wait()
    except TimeoutError:
        missing = next(child for child in children if not child.ready.is_set())
        raise EmbeddedError(f"{missing.program.name} did not get ready within {timeout_s:g} s.") from None


async def _attach_or_start(stack: AsyncExitStack, folder: DataFolder) -> Engines:
    deadline = time.monotonic() + HOLDER_TIMEOUT_S
    while True:
        try:
            return await stack.enter_async_context(open_engines(folder))
        except FolderInUseError:
            running = find_running(folder)
            if running and running.kind == "serve" and running.is_ready:
                return Engines(running.database_url, running.redis_url)
            # A serve whose engines are still starting, or another command, which is soon over.
            if time.monotonic() > deadline:
                if running and running.kind == "serve":
                    raise EmbeddedError(
                        f"The engines of the service that starts in {folder.path} (process {running.pid}) "
                        f"did not get ready within {HOLDER_TIMEOUT_S:g} s."
                    ) from None
                raise
        await asyncio.sleep(POLL_S)


def _say_nothing(_line: str) -> None:
    """Commands that come and go do not talk about engines."""
