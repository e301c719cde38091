"""A conversation as server-sent events: one response that follows a viewer's position until its end."""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from parley.auth.schemas import Identity
from parley.chat import protocol
from parley.chat.caps import Seats
from parley.chat.connection import Gone, Payload, Viewer, begin
from parley.chat.connections import ConnectionManager, Opening
from parley.chat.protocol import SSE_COMMENT, SSE_DONE, CloseCode
from parley.core.errors import AppError
from parley.core.tasks import Tasks

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
_STALE = ("token_expired", "Your sign-in has ended. Sign in again and come back.")
_SENTENCES = {
    CloseCode.TOKEN_STALE: _STALE,
    CloseCode.FORBIDDEN: ("forbidden", "You may no longer read this conversation."),
    CloseCode.GONE: ("conversation_not_found", "This conversation is no longer there."),
}


class StreamTransport:
    """Events over one response. Several at once are one write."""

    kind: ClassVar[str] = "sse"
    sign_of_life: Payload | None = SSE_COMMENT

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send = send
        self._scope = scope

    def frame(self, body: bytes, cursor: str | None) -> Payload:
        return protocol.sse_frame(body, cursor)

    def write(self, payloads: Sequence[Payload]) -> Awaitable[None] | None:
        return begin(self._send_body(payloads[0] if len(payloads) == 1 else b"".join(payloads)))  # type: ignore[arg-type]  # frames are bytes

    async def _send_body(self, data: Payload, *, is_last: bool = False) -> None:
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": not is_last})
        except (OSError, RuntimeError):  # nobody told us that the connection has been closed
            raise Gone from None

    async def finish(self, data: Payload) -> None:
        await self._send_body(data, is_last=True)

    async def close(self, code: CloseCode, reason: str) -> None:  # noqa: ARG002  # for logs of other transports
        """Say what happened as an event; the response ends by itself."""
        if code in _SENTENCES:
            error_code, sentence = _SENTENCES[code]
            view = protocol.error_view(error_code, sentence)
            await self._send_body(protocol.sse_frame(protocol.error(view, self._scope["request_id"]), None))

    def abort(self) -> None:
        extension = self._scope.get("extensions", {}).get("parley")
        if extension is not None:
            extension["abort"]()


@dataclass(frozen=True, slots=True)
class StreamParts:
    """What a stream works with."""

    connections: ConnectionManager
    seats: Seats
    tasks: Tasks
    send_deadline_s: float


class EventStream(Response):
    """The response. Its places, of the worker and in the conversation, are given back when it ends."""

    def __init__(
        self,
        identity: Identity,
        opening: Opening,
        parts: StreamParts,
        *,
        answers: Sequence[bytes] = (),
        until: UUID | None = None,
        is_over: bool = False,
    ) -> None:
        super().__init__()
        self._identity, self._opening, self._parts = identity, opening, parts
        self._answers, self._until, self._is_over = answers, until, is_over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the reply has ended, the peer has left, or the right to watch has."""
        parts = self._parts
        transport = StreamTransport(send, scope)
        viewer = Viewer(self._identity, transport, parts.tasks, deadline_s=parts.send_deadline_s, until=self._until)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
            parts.connections.enter(self._opening, viewer, *self._answers)
            if not self._is_over:
                await self._follow(viewer, receive)
            await self._end(viewer, transport)
        finally:
            parts.connections.leave(self._opening.watched, viewer)
            parts.seats.leave(self._identity.user_id, scope["client_address"].limit_key)

    async def _follow(self, viewer: Viewer, receive: Receive) -> None:
        """Wait for the end of the reply or of the connection, whichever comes first."""

        async def listen() -> None:
            with suppress(AppError):  # a body that does not end
                while (await receive())["type"] != "http.disconnect":
                    pass
            viewer.lose()

        listening = self._parts.tasks.spawn("listen for a disconnect", listen())
        try:
            await viewer.wait_ended()
        finally:
            listening.cancel()

    async def _end(self, viewer: Viewer, transport: StreamTransport) -> None:
        try:
            async with asyncio.timeout(viewer.deadline_s):
                await viewer.wait_sent()
                is_done = viewer.closed is None and viewer.is_open
                await transport.finish(SSE_DONE if is_done and (self._until is not None or self._is_over) else b"")
        except (TimeoutError, Gone):
            transport.abort()
