"""How to start and stop one process that serves: a worker, or the demo model. What it does is its module's business."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from socket import socket

from parley.core.embedded.program import Command, StopSteps

READY, DRAINING = b"ready", b"draining"
# The collector waits until everything is imported (the module turns it on again): a tenth of the start is its doing.
START = "import gc, runpy, sys; gc.disable(); del sys.argv[0]; runpy.run_module(sys.argv[0], run_name='__main__')"
AFTER_GRACE_S = 5.0  # closing pools and writing the last rows, once the requests are done


class Worker:
    """One process on listening sockets of the parent, which reports on a pipe how far its start is."""

    death_signal = signal.SIGKILL  # graceful would take longer than the 2 s a dead parent's port may stay taken

    def __init__(
        self, name: str, module: str, sockets: Sequence[socket], environ: Mapping[str, str], *, graceful_s: float
    ) -> None:
        self.name = name
        self._module = module
        self._sockets = sockets
        self._environ = environ
        self._graceful_s = graceful_s
        self._status: int | None = None

    @property
    def stop_steps(self) -> StopSteps:
        return ((signal.SIGTERM, self._graceful_s + AFTER_GRACE_S), (signal.SIGKILL, 2.0))

    async def prepare(self) -> None:
        """Nothing of a dead worker stays behind."""

    def command(self) -> Command:
        if self._status is not None:
            os.close(self._status)
        self._status, writer = os.pipe()
        numbers = [listener.fileno() for listener in self._sockets]
        argv = [sys.executable, "-P", "-c", START, self._module, "--status-fd", str(writer)]
        return Command(
            argv=[*argv, *(part for number in numbers for part in ("--fd", str(number)))],
            environ=self._environ,
            descriptors=[*numbers, writer],
            handed_over=[writer],
        )

    def successor_command(self) -> Command:
        command = self.command()
        return replace(command, argv=[*command.argv, "--successor"])

    async def wait_ready(self) -> Awaitable[None] | None:
        descriptor, self._status = self._status, None
        if descriptor is None:
            return None
        reader = asyncio.StreamReader()
        pipe = os.fdopen(descriptor, "rb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            await _line(reader, READY)
        except BaseException:
            transport.close()
            raise
        return _leaving(reader, transport)


async def _leaving(reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
    try:
        await _line(reader, DRAINING)
    finally:
        transport.close()


async def _line(reader: asyncio.StreamReader, wanted: bytes) -> None:
    async for line in reader:
        if line.strip() == wanted:
            return
    await asyncio.Event().wait()  # it ended without a word: whoever watches it cancels this
