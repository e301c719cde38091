"""A conversation over a WebSocket: frames in, through the session, to the service; out through the viewer."""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from slowapi.errors import RateLimitExceeded
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from uvicorn.protocols.utils import ClientDisconnected

from parley.auth.schemas import Identity
from parley.chat import protocol
from parley.chat.connection import Gone, Payload, Viewer
from parley.chat.connections import ConnectionManager, Opening
from parley.chat.conversations import ConversationService
from parley.chat.protocol import SUBPROTOCOL, Chat, CloseCode, Command, Edit, Feedback, Regenerate, Stop, Typing
from parley.chat.service import Again, Asked, ChatService, Question
from parley.chat.session import Answer, Close, Run, Session, SessionLimits
from parley.core.errors import AppError
from parley.core.tasks import Tasks
from parley.core.websocket_protocol import text_frame

log = structlog.get_logger(__name__)


class SocketTransport:
    """Frames over one WebSocket."""

    sign_of_life: Payload | None = None  # the protocol's own pings are

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    def frame(self, body: bytes, cursor: str | None) -> Payload:
        return protocol.ws_frame(body, cursor)

    async def send(self, payloads: Sequence[Payload]) -> None:
        try:
            for payload in payloads:
                await self._socket.send({"type": "websocket.send", "text": payload})
        except (ClientDisconnected, WebSocketDisconnect, RuntimeError):
            raise Gone from None

    async def close(self, code: CloseCode, reason: str) -> None:
        if self._socket.application_state is WebSocketState.CONNECTED:
            with suppress(ClientDisconnected, WebSocketDisconnect, RuntimeError):
                await self._socket.close(code, reason)

    def abort(self) -> None:
        extension = self._socket.scope.get("extensions", {}).get("parley")
        if extension is not None:
            extension["abort"]()


class FramedTransport(SocketTransport):
    """The same on our own server, which takes whole frames: made once for all sockets at a position."""

    def __init__(self, socket: WebSocket, write: Callable[[bytes], Awaitable[None]]) -> None:
        super().__init__(socket)
        self._write = write

    def frame(self, body: bytes, cursor: str | None) -> Payload:
        return text_frame(protocol.ws_text(body, cursor))

    async def send(self, payloads: Sequence[Payload]) -> None:
        try:
            await self._write(payloads[0] if len(payloads) == 1 else b"".join(payloads))  # type: ignore[arg-type]  # bytes
        except ClientDisconnected:
            raise Gone from None


def _transport(socket: WebSocket) -> SocketTransport:
    extension = socket.scope.get("extensions", {}).get("parley")
    return SocketTransport(socket) if extension is None else FramedTransport(socket, extension["write"])


@dataclass(frozen=True, slots=True)
class SocketParts:
    """What a socket works with."""

    chat: ChatService
    conversations: ConversationService
    connections: ConnectionManager
    tasks: Tasks
    send_deadline_s: float
    charge: Callable[[], Awaitable[None]]


async def serve_socket(
    socket: WebSocket, identity: Identity, conversation_id: UUID, cursor: str | None, parts: SocketParts
) -> None:
    """Watch a conversation and take commands until one side leaves; AppError before the accept refuses it."""
    opening = await parts.connections.open(identity, conversation_id, cursor)
    viewer = Viewer(identity, _transport(socket), parts.tasks, deadline_s=parts.send_deadline_s)
    try:
        offered = socket.scope.get("subprotocols", ())
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        session = Session(SessionLimits(), socket.scope["request_id"], now=time.monotonic())
        viewer.on_answers = session.answered
        parts.connections.enter(opening, viewer)
        await _Conversation(socket, identity, opening, viewer, parts).listen(session)
    finally:
        parts.connections.leave(opening, viewer)


@dataclass(frozen=True, slots=True)
class _Conversation:
    socket: WebSocket
    identity: Identity
    opening: Opening
    viewer: Viewer
    parts: SocketParts

    async def listen(self, session: Session) -> None:
        """Take frames in their order until the peer leaves."""
        while True:
            try:
                message = await self.socket.receive()
            except RuntimeError:  # closed by us
                return
            if message["type"] == "websocket.disconnect":
                return
            now = time.monotonic()
            data = message.get("text")
            for effect in session.receive(message["bytes"] if data is None else data, now):
                match effect:
                    case Answer(body):
                        self.viewer.answer(body)
                    case Close(code, reason):
                        self.viewer.close(code, reason)
                    case Run(command, ref):
                        await self._run(command, ref)

    async def _run(self, command: Command, ref: str | None) -> None:
        try:
            answer = await self._do(command, ref)
        except AppError as error:
            answer = self._error(error.code, error.message, ref, retryable=error.retryable, param=error.param)
        except RateLimitExceeded:
            answer = self._error("rate_limited", "Too many questions. Please wait.", ref, retryable=True)
        except Exception:  # the border of a connection: one command fails, the others go on
            log.exception("command_broke", command=type(command).__name__)
            answer = self._error("internal_error", "Something went wrong on our side.", ref, retryable=True)
        if answer is not None:
            self.viewer.answer(answer)

    async def _do(self, command: Command, ref: str | None) -> bytes | None:
        chat, conversation_id = self.parts.chat, self.opening.watched.conversation_id
        match command:
            case Chat(client_id=client_id, content=content, on_busy=on_busy):
                question = Question(content, conversation_id, client_id, on_busy)
                return _ack(ref, await chat.ask(self.identity, question, self.parts.charge))
            case Stop(message_id=message_id):
                await chat.stop(self.identity, message_id)
                return protocol.ack(ref, message_id, message_id)
            case Regenerate(message_id=message_id, client_id=client_id):
                return _ack(ref, await chat.again(self.identity, Again(message_id, client_id), self.parts.charge))
            case Edit(message_id=message_id, content=content, client_id=client_id):
                wish = Again(message_id, client_id, content)
                return _ack(ref, await chat.again(self.identity, wish, self.parts.charge))
            case Feedback(message_id=message_id, rating=rating, comment=comment):
                await self.parts.conversations.rate(self.identity, message_id, rating, comment)
                return protocol.ack(ref, message_id, message_id)
            case Typing(on=on):
                person: Any = {"id": self.identity.user_id, "name": self.opening.user_name}
                self.parts.connections.hint(conversation_id, protocol.typing(person, on=on), but=self.viewer)
        return None

    def _error(self, code: str, message: str, ref: str | None, *, retryable: bool, param: str | None = None) -> bytes:
        view = protocol.error_view(code, message, retryable=retryable, param=param)
        return protocol.error(view, self.socket.scope["request_id"], ref)


def _ack(ref: str | None, asked: Asked) -> bytes:
    return protocol.ack(ref, asked.message_id, asked.reply_id, duplicate=asked.is_duplicate)
