"""A pipe to a server that can be cut, closed, or left unread: TCP as it is on a bad day."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

CHUNK = 16_384
SMALL = 4096  # of what the kernel keeps for whoever reads nothing
CUT_S = 0.05  # the server has it, and its answer goes nowhere
Look = Callable[[bytes], bool]


class Tap:
    """Connections to one server, TCP or Unix."""

    def __init__(self, target: int | str) -> None:
        self._target = target
        self._passing: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self.is_shut = False
        """Whether whoever comes is sent away."""
        self.cuts_after: Look | None = None
        """Sees what goes to the server; where it says so, that is passed on and no answer comes back."""
        self.cuts = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stall(self) -> None:
        """Read nothing more of what the server says."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    def shut(self) -> None:
        """Cut everybody, and let nobody in."""
        self.is_shut = True
        for task in self._passing:
            task.cancel()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._enter, "127.0.0.1", 0)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.shut()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass(reader, writer), name="tap")
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner: asyncio.StreamWriter | None = None
        try:
            if self.is_shut:
                return
            inner_reader, inner = await self._connect()
            both = [
                asyncio.create_task(self._to_server(reader, inner, writer)),
                asyncio.create_task(self._from_server(inner_reader, writer)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in both:
                    pump.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except OSError:
            return
        finally:
            for end in (writer, inner):
                if end is not None:
                    end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        raw.setblocking(False)  # noqa: FBT003  # the standard library's way
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self._target))
        return await asyncio.open_connection(sock=raw, limit=SMALL)

    async def _to_server(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if self.cuts_after is not None and self.cuts_after(data):
                    client.transport.abort()
                    writer.write(data)
                    self.cuts += 1
                    await asyncio.sleep(CUT_S)
                    return
                writer.write(data)
                await writer.drain()

    async def _from_server(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                await self._flows.wait()
                data = await reader.read(CHUNK)
                if not data:
                    return
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def tap(target: int | str) -> AsyncIterator[Tap]:
    """Open one for as long as the block takes."""
    made = Tap(target)
    await made.open()
    try:
        yield made
    finally:
        await made.close()
