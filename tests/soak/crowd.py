"""Thousands of screens at little cost: sockets that keep what they were told, and come back with their cursor."""

import asyncio
import random
import socket
import time
from collections.abc import Sequence
from functools import partial
from urllib.parse import urlencode

import orjson
from tests.bench.socket_load import CLOSE_OPCODE, LONG, MASKED, PING_OPCODE, PONG, SHORT, handshake
from tests.fixtures.history import Heard, History

PATIENCE_S = 90.0
CLOSE_S = 0.2
SMALL = 4096
AGAIN_S = 1.0  # at most, times the tries so far: what clients do


class Link(asyncio.Protocol):
    """One connection of a member."""

    def __init__(self, head: bytes, member: "Member") -> None:
        self.joined: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._head, self._member = head, member
        self._buffer = b""
        self._is_open = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # it is one of TCP
        self.transport.write(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
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
                self._member.refusals.append(head.split(b" ", 2)[1].decode())
                self.transport.close()
                return
            self._is_open = True
        self._buffer = self._take(data)

    def _take(self, data: bytes) -> bytes:
        """Take whole frames and return the rest."""
        place, now = 0, time.monotonic()
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
                self._member.frames.append((now, data[begin:place]))
                if not self.joined.done():
                    self.joined.set_result(True)
            elif opcode == PING_OPCODE:
                self.transport.write(bytes([PONG, MASKED | size]) + bytes(4) + data[begin:place])
            elif opcode == CLOSE_OPCODE:
                self.transport.close()
        return data[place:]


class Member:
    """One screen. It does not come back by itself."""

    def __init__(
        self, name: str, port: int, conversation_id: str, access_token: str, *, is_small: bool = False
    ) -> None:
        self.name = name
        self.conversation_id = conversation_id
        self.frames: list[tuple[float, bytes]] = []
        self.refusals: list[str] = []
        self.link: Link | None = None
        self._port, self._token = port, access_token
        self._is_small = is_small
        """Whether its kernel keeps little of what it does not read."""

    async def join(self) -> float:
        """Connect until it is let in, going on from where it was; return how long that took."""
        began, tries = time.monotonic(), 0
        async with asyncio.timeout(PATIENCE_S):
            while True:
                cursor = self._cursor()
                where = self.conversation_id + (f"?{urlencode({'cursor': cursor})}" if cursor else "")
                make = partial(Link, handshake(where, self._token), self)
                _, self.link = await asyncio.get_running_loop().create_connection(make, sock=await self._open())
                if await self.link.joined:
                    return time.monotonic() - began
                tries += 1
                await asyncio.sleep(random.uniform(0, AGAIN_S * tries))

    async def _open(self) -> socket.socket:
        opened = socket.socket()
        opened.setblocking(False)  # noqa: FBT003  # the standard library's way
        if self._is_small:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", self._port))
        return opened

    def stop_reading(self) -> None:
        assert self.link is not None
        self.link.transport.pause_reading()

    def leave(self) -> None:
        """Vanish, as a phone in a tunnel does."""
        assert self.link is not None
        self.link.transport.abort()

    def history(self, user_id: str) -> History:
        """Return all it was told."""
        heard = [Heard(at, orjson.loads(frame)) for at, frame in self.frames]
        return History(self.name, user_id, self.conversation_id, stayed=True, heard=heard)

    def has_ended(self) -> bool:
        return any(b'"type":"complete"' in frame[:200] for _, frame in self.frames[-3:])

    def _cursor(self) -> str | None:
        for _, frame in reversed(self.frames):
            cursor = orjson.loads(frame).get("id")
            if cursor is not None:
                return str(cursor)
        return None


async def join_all(members: Sequence[Member], *, at_once: int) -> list[float]:
    """Let everybody in; return how long each took."""
    slots = asyncio.Semaphore(at_once)

    async def join(member: Member) -> float:
        async with slots:
            return await member.join()

    return list(await asyncio.gather(*(join(member) for member in members)))


async def until_ended(members: Sequence[Member]) -> None:
    """Wait until each has been told of an end."""
    async with asyncio.timeout(PATIENCE_S):
        while not all(member.has_ended() for member in members):
            await asyncio.sleep(0.1)


async def leave_all(members: Sequence[Member]) -> None:
    """Let everybody vanish, and wait until the sockets are closed on this side."""
    for member in members:
        member.leave()
    await asyncio.sleep(CLOSE_S)
