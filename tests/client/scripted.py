"""Servers that follow a script, one entry a connection: what a client does is seen without a real service."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import httpx
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from parley.chat.tape import digest

CONVERSATION, QUESTION, REPLY = (f"0199a1b2-0000-7000-8000-0000000000{end}" for end in ("0c", "a1", "a2"))
USER = {"id": "u", "name": "Ada", "role": "user"}
VIEW = {"id": CONVERSATION, "title": "", "mode": "ai", "archived": False, "rev": 1}
READY: dict[str, Any] = {
    "type": "ready",
    "protocol": "parley.v1",
    "conversation": VIEW,
    "user": USER,
    "heartbeat_s": 25,
}


def row(message_id: str, role: str, status: str, content: str, rev: int) -> dict[str, Any]:
    """Return a message."""
    return {
        "id": message_id,
        "seq": 1 if role == "user" else 2,
        "rev": rev,
        "role": role,
        "status": status,
        "content": content,
        "steps": [],
        "sources": [],
    }


RESET: dict[str, Any] = {
    "type": "reset",
    "reason": "joined",
    "conversation": VIEW,
    "messages": [row(QUESTION, "user", "complete", "Hello?", 1), row(REPLY, "assistant", "streaming", "", 2)],
    "has_more": False,
}


def token(content: str) -> dict[str, Any]:
    """Return a piece of the reply."""
    return {"type": "token", "message_id": REPLY, "content": content}


def complete(text: str) -> dict[str, Any]:
    """Return the end of the reply."""
    length, sha256 = digest(text)
    how = {"status": "complete", "finish_reason": "stop", "content_length": length, "content_sha256": sha256}
    return {"type": "complete", "message_id": REPLY, **how}


def sse(*events: dict[str, Any] | tuple[str, dict[str, Any]] | str) -> bytes:
    """Return events as a stream; a pair has a cursor, a text stands as it is."""
    lines = []
    for event in events:
        if isinstance(event, str):
            lines.append(event)
        elif isinstance(event, dict):
            lines.append(f"data: {json.dumps(event)}\n\n")
        else:
            lines.append(f"id: {event[0]}\ndata: {json.dumps(event[1])}\n\n")
    return "".join(lines).encode()


class Peer:
    """The server's end of a socket."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket

    @property
    def path(self) -> str:
        assert self._socket.request is not None
        return self._socket.request.path

    @property
    def token(self) -> str | None:
        assert self._socket.request is not None
        return self._socket.request.headers.get("Authorization")

    async def tell(self, event: dict[str, Any], cursor: str | None = None) -> None:
        await self._socket.send(json.dumps(event if cursor is None else {"id": cursor, **event}))

    async def hear(self) -> dict[str, Any]:
        command: dict[str, Any] = json.loads(await self._socket.recv())
        return command

    async def ack(self, command: dict[str, Any], *, duplicate: bool = False) -> None:
        ref = command.get("client_id", command.get("message_id"))
        await self.tell({"type": "ack", "ref": ref, "message_id": QUESTION, "reply_id": REPLY, "duplicate": duplicate})

    async def close(self, code: int) -> None:
        await self._socket.close(code)

    async def vanish(self) -> None:
        self._socket.transport.abort()
        await asyncio.sleep(0)

    async def stay(self) -> None:
        await self._socket.wait_closed()


Act = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def scripted_sockets(acts: Sequence[Act | HTTPStatus]) -> AsyncIterator[str]:
    """Serve one act a connection, or refuse it with a status; then everything is refused with 404."""
    left = list(acts)

    async def refuse(socket: ServerConnection, _: Request) -> Response | None:
        act = left[0] if left else HTTPStatus.NOT_FOUND
        if not isinstance(act, HTTPStatus):
            return None
        del left[:1]
        return socket.respond(act, json.dumps({"error": {"code": "scripted", "message": "No."}}))

    async def handle(socket: ServerConnection) -> None:
        act = left.pop(0)
        assert not isinstance(act, HTTPStatus)
        await act(Peer(socket))

    async with serve(handle, "127.0.0.1", 0, process_request=refuse, subprotocols=["parley.v1"]) as server:  # type: ignore[list-item]
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"


def scripted_http(answers: Sequence[httpx.Response | Exception], heard: list[httpx.Request]) -> httpx.AsyncClient:
    """Return a client whose requests get one answer after the other."""
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request)
        response = left.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))
