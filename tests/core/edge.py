"""A server with our protocols over a bare application, and a client that says any bytes."""

import asyncio
import contextlib
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from parley.core.drain import Drain
from parley.core.health import Readiness
from parley.core.http_protocol import HttpProtocol
from parley.core.neighbours import Neighbours
from parley.core.server import Server
from parley.core.serving import Bounds, ServingConfig
from parley.core.websocket_protocol import WebSocketProtocol

PATIENCE_S = 10.0
TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: service\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"A" * 22 + b"==\r\n"
)
GET = b"GET / HTTP/1.1\r\nHost: service\r\n\r\n"


class App:
    """Answers every request, echoes every message, and remembers what it saw."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.messages: list[Any] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.ended = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self.messages.append("lifespan.shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.scopes.append(scope)
        try:
            await (self._http(send) if scope["type"] == "http" else self._websocket(receive, send))
        finally:
            self.ended += 1
            self.messages.append("ended")

    async def _http(self, send: Any) -> None:
        await self.hold.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def _websocket(self, receive: Any, send: Any) -> None:
        await receive()
        await self.hold.wait()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            self.messages.append(message)
            await send({"type": "websocket.send", "text": message.get("text") or message["bytes"].decode()})
        self.messages.append(message)


class Edge:
    """The server of one test."""

    def __init__(self, app: App, server: Server, drain: Drain, readiness: Readiness, port: int) -> None:
        self.app = app
        self.server = server
        self.drain = drain
        self.readiness = readiness
        self.port = port


@asynccontextmanager
async def serving(
    *,
    bounds: Bounds | None = None,
    graceful_s: float = 5.0,
    when_ready: Readiness | None = None,
    neighbours: Neighbours | None = None,
    readiness: Readiness | None = None,
    **options: Any,
) -> AsyncIterator[Edge]:
    """Serve until the end of the block."""
    app, readiness = App(), readiness or Readiness()
    drain = Drain(readiness)
    config = ServingConfig(
        app,
        drain=drain,
        bounds=bounds or Bounds(),
        graceful_s=graceful_s,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=65_536,
        log_config=None,
        access_log=False,
        **options,
    )
    server = Server(config, when_ready=when_ready, neighbours=neighbours)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = asyncio.create_task(server.serve([listener.dup()]), name="server of the test")
        async with asyncio.timeout(PATIENCE_S):
            while not server.started and when_ready is None:
                await asyncio.sleep(0.01)
        try:
            yield Edge(app, server, drain, readiness, listener.getsockname()[1])
        finally:
            app.hold.set()
            server.end()
            server.end(signal.SIGINT)
            async with asyncio.timeout(PATIENCE_S):
                await running


class Client:
    """A connection that sends what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send as much as is taken: whoever is flooded may close in the middle."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self) -> bytes:
        """Return an answer of our bare application, or the head of any other."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            return head + (await self.reader.readexactly(2) if b" 200 " in head else b"")

    async def rest(self) -> bytes:
        """Return all that still comes, until the end or a reset."""
        got = b""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while piece := await self.reader.read(65_536):
                    got += piece
        return got

    async def frame(self) -> tuple[int, bytes]:
        """Return the next frame: its opcode and what it carries."""
        async with asyncio.timeout(PATIENCE_S):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                [size] = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                [size] = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 15, await self.reader.readexactly(size)

    async def close_code(self) -> int:
        """Return the code of the close frame, whatever comes before it."""
        while True:
            opcode, data = await self.frame()
            if opcode == CLOSE:
                return int.from_bytes(data[:2])

    async def upgrade(self) -> "Client":
        await self.send(UPGRADE + b"\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert b" 101 " in await self.reader.readuntil(b"\r\n\r\n")
        return self


@asynccontextmanager
async def connected(port: int, **options: Any) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def frame(opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    """Return one frame as a client sends it, with a mask of zeros."""
    head = bytes([opcode | (0x80 if fin else 0)])
    if len(data) < 126:
        size = bytes([0x80 | len(data)])
    elif len(data) < 65_536:
        size = bytes([0x80 | 126]) + struct.pack("!H", len(data))
    else:
        size = bytes([0x80 | 127]) + struct.pack("!Q", len(data))
    return head + size + bytes(4) + data
