"""The embedded Valkey: how to start, ask and stop it. What it holds survives by its append-only file."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from urllib.parse import quote

from parley.core.embedded.binaries import version_of
from parley.core.embedded.leftovers import end_leftovers
from parley.core.embedded.placement import ValkeyPlace
from parley.core.embedded.program import Command, StopSteps, engine_environ

POLL_S = 0.01
ANSWER_TIMEOUT_S = 1.0


class Valkey:
    """One Valkey in a folder of its own, reached by a Unix socket that only its own account can open."""

    name = "Valkey"
    death_signal = signal.SIGTERM
    stop_steps: StopSteps = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 2.0))

    def __init__(self, place: ValkeyPlace, binary: Path, *, fast: bool = False) -> None:
        self._place = place
        self._binary = binary
        self._fast = fast

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._place.socket))}?db=0"

    async def version(self) -> str:
        return await version_of(self._binary)

    async def prepare(self) -> None:
        await end_leftovers(self._place.folder, self._pid_file, "valkey-server")
        for left in (self._pid_file, self._place.socket):
            left.unlink(missing_ok=True)

    def command(self) -> Command:
        options = {
            "port": "0",
            "unixsocket": str(self._place.socket),
            "unixsocketperm": "700",
            "dir": str(self._place.folder),
            "pidfile": str(self._pid_file),
            "appendonly": "yes",
            "appendfsync": "no" if self._fast else "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",  # anything else would evict live streams
        }
        return Command(
            argv=[str(self._binary), *(part for name, value in options.items() for part in (f"--{name}", value))],
            environ=engine_environ(),
            log=self._place.log,
            folder=os.sep,
        )

    async def wait_ready(self) -> None:
        while not await self.answers():  # noqa: ASYNC110  # another process has no event to wait for
            await asyncio.sleep(POLL_S)

    async def answers(self) -> bool:
        """Say whether it answers commands now; while it reads its file it answers with an error."""
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(str(self._place.socket))
                try:
                    writer.write(b"PING\r\n")
                    return await reader.readexactly(1) == b"+"
                finally:
                    writer.close()
        return False

    @property
    def _pid_file(self) -> Path:
        return self._place.folder / "valkey.pid"
