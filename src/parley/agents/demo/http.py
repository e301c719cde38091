"""As much HTTP/1.1 as the demo server needs, on raw streams: tests want every byte of an answer in their own hands."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from parley.agents.demo.traffic import Call, Visit
from parley.core.clock import Clock

HEAD_BYTES = 64 * 1024
BODY_BYTES = 2 * 1024 * 1024  # the longest history of ours is a fraction of it
IDLE_S = 75.0  # longer than clients keep a connection, so that they close it, not we
BODY_S = 10.0
SEND_S = 30.0  # for a client that takes nothing


class BadRequest(Exception):
    """A request that is answered with a status and no more."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ClientLeft(Exception):
    """The client closed its side: nobody listens."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Return the next request of a connection; None when there is none."""
    try:
        async with asyncio.timeout(IDLE_S):
            head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long") from error
    except (asyncio.IncompleteReadError, TimeoutError):
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    try:
        method, target, _ = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        length = int(headers.get("content-length", "0"))
    except ValueError as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1") from error
    if "transfer-encoding" in headers:
        raise BadRequest(HTTPStatus.LENGTH_REQUIRED, "a Content-Length is needed")
    if not 0 <= length <= BODY_BYTES:
        raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too long")
    try:
        async with asyncio.timeout(BODY_S):
            body = await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        return None
    return Request(method, target.partition("?")[0], headers, body)


class Exchange:
    """What is sent for one call, byte by byte if need be; stops with ClientLeft as soon as the client has left."""

    def __init__(self, writer: asyncio.StreamWriter, visit: Visit, call: Call, clock: Clock) -> None:
        self.call = call
        self.stays_open = True
        """Whether another request may follow on this connection."""
        self._writer = writer
        self._visit = visit
        self._clock = clock

    async def send(self, data: bytes, *, deaf: bool = False) -> None:
        """Send bytes as they are; `deaf` goes on when the client has left, until the connection itself is lost."""
        if self._writer.is_closing() or (self._visit.gone.is_set() and not deaf):
            raise ClientLeft
        if self.call.first_byte_at is None:
            self.call.first_byte_at = self._clock.monotonic()
        self.call.sent_bytes += len(data)
        self._writer.write(data)
        async with asyncio.timeout(SEND_S):
            await self._writer.drain()
        # Draining waits only when much is unsent; whoever talks without end must let the others have their turn.
        await asyncio.sleep(0)

    async def pause(self, seconds: float) -> None:
        """Wait; a client that leaves meanwhile ends the wait with ClientLeft."""
        try:
            async with asyncio.timeout(seconds):
                await self._visit.gone.wait()
        except TimeoutError:
            return
        raise ClientLeft

    async def nap(self, seconds: float) -> None:
        """Wait, whoever leaves."""
        await self._clock.sleep(seconds)

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of an answer."""
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{n}: {v}" for n, v in headers.items())]
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def begin_stream(self, *, is_chunked: bool = True) -> None:
        """Send the head of a stream; one that is not chunked ends with the connection."""
        self.stays_open = is_chunked
        framing = ("transfer-encoding", "chunked") if is_chunked else ("connection", "close")
        await self.head(200, dict([("content-type", "text/event-stream"), ("cache-control", "no-cache"), framing]))

    async def chunk(self, data: bytes, *, deaf: bool = False) -> None:
        """Send one chunk of a chunked body; an empty one ends it."""
        await self.send(b"%x\r\n%s\r\n" % (len(data), data), deaf=deaf)

    async def whole(self, status: int, body: bytes, *, kind: str = "application/json", **headers: str) -> None:
        """Send an answer in one piece."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await self.head(status, {"content-type": kind, "content-length": str(len(body)), **named})
        await self.send(body)

    async def json(self, status: int, value: Any, **headers: str) -> None:
        await self.whole(status, json.dumps(value).encode(), **headers)

    def drop(self) -> None:
        """Cut the connection off."""
        self.stays_open = False
        self._writer.transport.abort()


def error_body(message: str, code: str) -> dict[str, Any]:
    """Return an error in the form of the protocol."""
    return {"error": {"message": message, "type": "demo_error", "param": None, "code": code}}
