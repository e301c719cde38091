"""How to start and stop one process that serves: a worker, or the demo model. What it does is its module's business."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from socket import socket

from parley.core.embedded.program import Command, StopSteps

READY, SPENT, DRAINING = b"ready", b"spent", b"draining"
# The collector waits until everything is imported (the module turns it on again): a tenth of the start is its doing.
START = "import gc, runpy, sys; gc.disable(); del sys.argv[0]; runpy.run_module(sys.argv[0], run_name='__main__')"
AFTER_GRACE_S = 5.0  # closing pools and writing the last rows, once the requests are done


class Worker:
    """One process on listening sockets of the parent, which reports on a pipe how far its start is."""

    death_signal = signal.SIGKILL  # graceful would take longer than the 2 s a dead parent's port may stay taken

    def __init__(
        self,
        name: str,
        module: str,
        sockets: Sequence[socket],
        environ: Mapping[str, str],
        *,
        graceful_s: float,
        neighbours: Sequence[socket] = (),
        on_spent: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self._module = module
        self._sockets = sockets
        self._neighbours = neighbours
        self._on_spent = on_spent
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
        given = [("--fd", listener.fileno()) for listener in self._sockets]
        given += [("--neighbour-fd", listener.fileno()) for listener in self._neighbours]
        argv = [sys.executable, "-P", "-c", START, self._module, "--status-fd", str(writer)]
        return Command(
            argv=[*argv, *(part for name, number in given for part in (name, str(number)))],
            environ=self._environ,
            descriptors=[*(number for _, number in given), writer],
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
        return self._leaving(reader, transport)

    async def _leaving(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        try:
            while await _line(reader, SPENT, DRAINING) == SPENT:
                if self._on_spent is not None:
                    self._on_spent(self.name)
        finally:
            transport.close()


async def _line(reader: asyncio.StreamReader, *wanted: bytes) -> bytes:
    async for line in reader:
        if line.strip() in wanted:
            return line.strip()
    await asyncio.Event().wait()  # it ended without a word: whoever watches it cancels this
    raise AssertionError  # for the type checker, which does not know that one waits for ever
