"""HTTP/1.1 on raw sockets: little enough that the server is what is measured. Answers need a Content-Length."""

import asyncio
import json
import re
import time
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlencode

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Answer(NamedTuple):
    """One answer; the head as it came."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        found = re.search(rf"\r\n{re.escape(name)}: *([^\r]*)", self.head.decode("latin-1"), re.IGNORECASE)
        return found[1] if found else None

    def json(self) -> Any:
        return json.loads(self.body)


def request(method: str, path: str, *, token: str | None = None, body: Any = None, form: Any = None) -> bytes:
    """Return a whole request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: service"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    content = b""
    if body is not None:
        content = json.dumps(body).encode()
        lines.append("Content-Type: application/json")
    if form is not None:
        content = urlencode(form).encode()
        lines.append("Content-Type: application/x-www-form-urlencoded")
    if content or method == "POST":
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content


class _Wire(asyncio.Protocol):
    """Cuts what arrives into answers."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.closed = asyncio.get_running_loop().create_future()
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # it is one of TCP

    def data_received(self, data: bytes) -> None:
        self._buffer = buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(buffer, 0, end + 2)
        end += 4
        stop = end + (int(length[1]) if length else 0)
        if len(buffer) >= stop:
            self._buffer = b""
            self.answered(buffer[:end], buffer[end:stop])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    @abstractmethod
    def answered(self, head: bytes, body: bytes) -> None:
        """Take an answer."""


class Connection(_Wire):
    """A connection that is asked one thing at a time."""

    _waiter: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def ask(self, sent: bytes, timeout_s: float = 30.0) -> Answer:
        """Send a request and return its answer; ConnectionError when the connection is lost before."""
        if self.transport.is_closing():
            raise ConnectionResetError
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(sent)
        async with asyncio.timeout(timeout_s):
            return await self._waiter

    async def close(self) -> None:
        self.transport.close()
        await self.closed

    def answered(self, head: bytes, body: bytes) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(Answer(int(head[9:12]), head, body))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(ConnectionResetError())


class Run(NamedTuple):
    """What a closed loop of some seconds came to."""

    per_s: float
    latencies_ms: Sequence[float]
    odd: int
    """Answers with another status than the one expected."""


class _Pump(_Wire):
    """Asks the same thing again and again."""

    def __init__(self, sent: bytes, status: bytes, until: float) -> None:
        super().__init__()
        self.latencies_s: list[float] = []
        self.odd = 0
        self._sent, self._status, self._until = sent, status, until
        self._began = 0.0

    def begin(self) -> None:
        self._began = time.perf_counter()
        self.transport.write(self._sent)

    def answered(self, head: bytes, body: bytes) -> None:
        now = time.perf_counter()
        self.latencies_s.append(now - self._began)
        self.odd += head[9:12] != self._status
        if now < self._until:
            self._began = now
            self.transport.write(self._sent)
        else:
            self.transport.close()


async def pump(port: int, requests: Sequence[bytes], status: int, seconds: float) -> Run:
    """Keep one connection a request busy for that long."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    pumps = []
    for sent in requests:
        _, one = await loop.create_connection(partial(_Pump, sent, b"%d" % status, began + seconds), "127.0.0.1", port)
        pumps.append(one)
    for one in pumps:
        one.begin()
    await asyncio.gather(*(one.closed for one in pumps))
    took = time.perf_counter() - began
    latencies_ms = sorted(latency * 1000 for one in pumps for latency in one.latencies_s)
    return Run(len(latencies_ms) / took, latencies_ms, sum(one.odd for one in pumps))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which this share of them is."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
