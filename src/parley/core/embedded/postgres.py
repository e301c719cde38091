"""The embedded PostgreSQL: making its cluster once, and how to start, ask and stop it."""

import asyncio
import contextlib
import os
import shutil
import signal
import struct
import tempfile
from pathlib import Path
from urllib.parse import quote

from parley.core.embedded.account import check_has_name
from parley.core.embedded.binaries import version_of
from parley.core.embedded.errors import EmbeddedError
from parley.core.embedded.leftovers import end_leftovers
from parley.core.embedded.placement import PostgresPlace
from parley.core.embedded.program import Command, StopSteps, engine_environ, launch

USER = DATABASE = "parley"
PORT = 5432  # part of the name of the socket, nothing listens on it
MAX_CONNECTIONS = 200
POLL_S = 0.01
ANSWER_TIMEOUT_S = 1.0
INITIALISE_TIMEOUT_S = 120.0
PROTOCOL_3 = 196608
# In template1, so that databases made later (those of tests) have vectors as well.
FIRST_STATEMENTS = f"CREATE EXTENSION IF NOT EXISTS vector;\nCREATE DATABASE {DATABASE};\n"


class Postgres:
    """One PostgreSQL on a cluster of its own, reached by a Unix socket that only its own account can open."""

    name = "PostgreSQL"
    death_signal = signal.SIGQUIT
    stop_steps: StopSteps = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 2.0))

    def __init__(self, place: PostgresPlace, *, fast: bool = False, max_connections: int = MAX_CONNECTIONS) -> None:
        self._place = place
        self._fast = fast
        self._max_connections = max_connections

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@/{DATABASE}?host={quote(str(self._place.socket_folder))}"

    async def version(self) -> str:
        return await version_of(self._place.binaries / "postgres")

    async def initialise(self) -> None:
        """Make the cluster under another name and rename it when complete: a kill in between leaves no half of it."""
        cluster = self._place.cluster
        await self._clear_drafts()
        if self._place.is_initialised:
            return
        check_has_name(self._place.account)
        draft = Path(tempfile.mkdtemp(prefix=f"{cluster.name}.draft-", dir=cluster.parent))
        if self._place.account is not None:
            os.chown(draft, self._place.account.user, self._place.account.group)
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8"]
        options = [*locale, "--auth=trust", "-U", USER]
        await self._run_tool("initdb", "-D", str(draft), *options, *(["--no-sync"] if self._fast else []))
        single = ["--single", "-D", str(draft), "-c", "log_checkpoints=off", *(["-F"] if self._fast else [])]
        await self._run_tool("postgres", *single, "template1", statements=FIRST_STATEMENTS)
        os.rename(draft, cluster)  # noqa: PTH104  # one system call

    async def prepare(self) -> None:
        cluster = self._place.cluster
        await end_leftovers(cluster, cluster / "postmaster.pid", "postgres")
        # Nobody works here any more. Its number in these files may meanwhile be somebody else's, which
        # PostgreSQL would take for a living predecessor.
        socket = self._place.socket_folder / f".s.PGSQL.{PORT}"
        for left in (cluster / "postmaster.pid", socket, socket.with_name(f"{socket.name}.lock")):
            left.unlink(missing_ok=True)

    def command(self) -> Command:
        settings = {
            "listen_addresses": "",
            # A list in which double quotes keep commas and spaces together.
            "unix_socket_directories": '"' + str(self._place.socket_folder).replace('"', '""') + '"',
            "unix_socket_permissions": "0700",
            "port": str(PORT),
            "max_connections": str(self._max_connections),
            "shared_buffers": "128MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_checkpoints": "off",
            "log_error_verbosity": "terse",  # no DETAIL: it repeats what people wrote, into a file nobody erases
            "cluster_name": "parley",
            "jit": "off",  # costs more than it gives on short statements
            **({"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"} if self._fast else {}),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Command(
            argv=[str(self._place.binaries / "postgres"), "-D", str(self._place.cluster), *options],
            environ=engine_environ(),
            account=self._place.account,
            log=self._place.log,
            folder=os.sep,
        )

    async def wait_ready(self) -> None:
        while not await self.answers():  # noqa: ASYNC110  # another process has no event to wait for
            await asyncio.sleep(POLL_S)

    async def answers(self) -> bool:
        """Say whether it lets our user into our database now."""
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await _greet(str(self._place.socket_folder / f".s.PGSQL.{PORT}"))
        return False

    async def _clear_drafts(self) -> None:
        cluster = self._place.cluster
        for draft in cluster.parent.glob(f"{cluster.name}.draft-*"):
            await end_leftovers(draft, draft / "postmaster.pid", "postgres")
            shutil.rmtree(draft, ignore_errors=True)

    async def _run_tool(self, program: str, *arguments: str, statements: str = "") -> None:
        argv = [str(self._place.binaries / program), *arguments]
        command = Command(argv, engine_environ(), account=self._place.account, folder=os.sep, is_piped=True)
        process = await launch(command, signal.SIGKILL)
        try:
            output, _ = await asyncio.wait_for(process.communicate(statements.encode()), INITIALISE_TIMEOUT_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        # The single-user mode goes on after an error and then ends well.
        if process.returncode != 0 or b"ERROR:" in output:
            self._place.log.write_bytes(output)
            raise EmbeddedError(f"PostgreSQL could not be initialised; {self._place.log} says why.")


async def _greet(socket_path: str) -> bool:
    """Begin a session and leave it again: R is the answer of a server that lets us in, E of one that is not ready."""
    reader, writer = await asyncio.open_unix_connection(socket_path)
    try:
        names = b"".join(part.encode() + b"\0" for part in ("user", USER, "database", DATABASE)) + b"\0"
        writer.write(struct.pack("!ii", 8 + len(names), PROTOCOL_3) + names)
        kind = await reader.readexactly(1)
        writer.write(b"X" + struct.pack("!i", 4))
        return kind == b"R"
    finally:
        writer.close()
