"""Cheap WebSocket readers: they shake hands, count frames, answer pings, and understand nothing else."""

import asyncio
import base64
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

TOKEN = b'"type":"token"'
FIRST = b'"type":"reset"'
SHORT, LONG = 125, 126
MASKED, FINAL_TEXT, PONG = 0x80, 0x81, 0x8A
PING_OPCODE, CLOSE_OPCODE = 0x9, 0x8
PATIENCE_S = 60.0


class Board:
    """What all sockets of a run have seen together."""

    def __init__(self) -> None:
        self.deliveries = 0
        self.received = 0
        self.ends = 0
        self.lost = 0
        self.pings = 0


class Socket(asyncio.Protocol):
    """One of them. `joined` ends when what stands there has been told, with whether it was."""

    def __init__(self, head: bytes, board: Board) -> None:
        self.joined: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.refusal = b""
        self._head, self._board = head, board
        self._buffer = b""
        self._is_open = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # it is one of TCP
        self._transport.write(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._board.lost += 1
        if not self.joined.done():
            self.joined.set_result(False)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        if not self._is_open:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.refusal = head + data
                self._transport.close()
                return
            self._is_open = True
        self._buffer = self._take(data)

    def say(self, text: bytes) -> None:
        """Send one frame of text."""
        size = len(text)
        length = bytes([MASKED | size]) if size <= SHORT else bytes([MASKED | LONG]) + struct.pack("!H", size)
        self._transport.write(bytes([FINAL_TEXT]) + length + bytes(4) + text)  # masked with zeros

    def close(self) -> None:
        self._transport.abort()

    def _take(self, data: bytes) -> bytes:
        """Take whole frames and return the rest."""
        place, board = 0, self._board
        while len(data) >= place + 2:
            size, begin = data[place + 1], place + 2
            if size > SHORT:
                width = 2 if size == LONG else 8
                size, begin = int.from_bytes(data[begin : begin + width]), begin + width
            if len(data) < begin + size:
                break
            opcode = data[place] & 0xF
            place = begin + size
            if opcode == 1:
                board.received += 1
                if data.find(TOKEN, begin, place) >= 0:
                    board.deliveries += 1
                elif data.find(b'"type":"complete"', begin, place) >= 0:
                    board.ends += 1
                elif not self.joined.done() and data.find(FIRST, begin, place) >= 0:
                    self.joined.set_result(True)
            elif opcode == PING_OPCODE:
                board.pings += 1
                self._transport.write(bytes([PONG, MASKED | size]) + bytes(4) + data[begin:place])
            elif opcode == CLOSE_OPCODE:
                self._transport.close()
        return data[place:]


def handshake(conversation_id: str, access_token: str) -> bytes:
    """Return how to open one."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET /chat/ws/{conversation_id} HTTP/1.1",
        "Host: service",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Protocol: parley.v1",
        f"Authorization: Bearer {access_token}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def open_sockets(port: int, heads: Sequence[bytes], board: Board, *, at_once: int) -> list[Socket]:
    """Open them all and wait until each has joined."""
    loop, sockets, left = asyncio.get_running_loop(), [], iter(heads)

    async def open_some() -> None:
        for head in left:
            _, socket = await loop.create_connection(partial(Socket, head, board), "127.0.0.1", port)
            sockets.append(socket)
            async with asyncio.timeout(PATIENCE_S):
                if not await socket.joined:
                    raise SystemExit(f"a socket was refused: {socket.refusal[:400]!r}")

    await asyncio.gather(*(open_some() for _ in range(at_once)))
    return sockets


async def close_sockets(sockets: Sequence[Socket]) -> None:
    """Hang up."""
    for socket in sockets:
        with suppress(OSError):
            socket.close()
    await asyncio.sleep(0.5)
