"""A conversation over a WebSocket: frames in, through the session, to the service; out through the viewer."""

import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

import structlog
from slowapi.errors import RateLimitExceeded
from starlette.types import Receive, Send
from starlette.websockets import WebSocket
from uvicorn.protocols.utils import ClientDisconnected

from parley.auth.schemas import Identity
from parley.chat import protocol
from parley.chat.caps import Seats
from parley.chat.connection import Gone, Payload, Viewer, begin
from parley.chat.connections import ConnectionManager
from parley.chat.conversations import ConversationService
from parley.chat.protocol import SUBPROTOCOL, Chat, CloseCode, Command, Edit, Feedback, Regenerate, Stop, Typing
from parley.chat.service import Again, Asked, ChatService, Question
from parley.chat.session import Answer, Close, Run, Session, SessionLimits
from parley.chat.watched import Watched
from parley.core.errors import AppError
from parley.core.tasks import Tasks
from parley.core.telemetry import Origin, Telemetry
from parley.core.websocket_protocol import Extension, text_frame

log = structlog.get_logger(__name__)

ROUTE = "/chat/ws/{conversation_id}"
NORMAL, LOST = 1000, 1006  # close codes: nothing to say, and no close frame at all


class SocketTransport:
    """Frames over one WebSocket of any server."""

    kind: ClassVar[str] = "ws"
    sign_of_life: Payload | None = None  # the protocol's own pings are

    def __init__(self, send: Send) -> None:
        self._send = send

    def frame(self, body: bytes, cursor: str | None) -> Payload:
        return protocol.ws_frame(body, cursor)

    def write(self, payloads: Sequence[Payload]) -> Awaitable[None] | None:
        return begin(self._send_all(payloads))

    async def _send_all(self, payloads: Sequence[Payload]) -> None:
        try:
            for payload in payloads:
                await self._send({"type": "websocket.send", "text": payload})
        except (ClientDisconnected, OSError, RuntimeError):
            raise Gone from None

    async def close(self, code: CloseCode, reason: str) -> None:
        with suppress(ClientDisconnected, OSError, RuntimeError):
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def abort(self) -> None:
        """Nothing in ASGI does this."""


class FramedTransport(SocketTransport):
    """The same on our own server, which takes whole frames: made once for all sockets at a position."""

    def __init__(self, extension: Extension) -> None:
        super().__init__(extension["send"])
        self._write = extension["write"]
        self.abort = extension["abort"]  # type: ignore[method-assign]  # here there is something that does

    def frame(self, body: bytes, cursor: str | None) -> Payload:
        return text_frame(protocol.ws_text(body, cursor))

    def write(self, payloads: Sequence[Payload]) -> Awaitable[None] | None:
        try:
            rest = self._write(payloads[0] if len(payloads) == 1 else b"".join(payloads))  # type: ignore[arg-type]  # bytes
        except ClientDisconnected:
            raise Gone from None
        return None if rest is None else self._finish(rest)

    async def _finish(self, rest: Awaitable[None]) -> None:
        try:
            await rest
        except ClientDisconnected:
            raise Gone from None


@dataclass(frozen=True, slots=True)
class SocketParts:
    """What every socket works with."""

    chat: ChatService
    conversations: ConversationService
    connections: ConnectionManager
    seats: Seats
    tasks: Tasks
    send_deadline_s: float
    telemetry: Telemetry


async def serve_socket(
    socket: WebSocket, identity: Identity, conversation_id: UUID, cursor: str | None, parts: SocketParts
) -> None:
    """Watch a conversation and take commands until one side leaves; AppError before the accept refuses it."""
    structlog.contextvars.bind_contextvars(conversation_id=str(conversation_id))
    extension: Extension | None = socket.scope.get("extensions", {}).get("parley")
    address = socket.scope["client_address"].limit_key
    with parts.seats.take(identity.user_id, address):
        opening = await parts.connections.open(identity, conversation_id, cursor)
    transport = SocketTransport(socket.send) if extension is None else FramedTransport(extension)
    conversation = _Conversation(
        receive=socket.receive if extension is None else extension["receive"],
        identity=identity,
        address=address,
        request_id=socket.scope["request_id"],
        traced=parts.telemetry.origin(socket.scope),
        watched=opening.watched,
        user_name=opening.user_name,
        viewer=Viewer(identity, transport, parts.tasks, deadline_s=parts.send_deadline_s),
        parts=parts,
    )
    try:
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope.get("subprotocols", ()) else None)
        session = Session(SessionLimits(), conversation.request_id, now=time.monotonic())
        conversation.viewer.on_answers = session.answered
        parts.connections.enter(opening, conversation.viewer)
    except BaseException:
        conversation.leave()
        raise
    if extension is None:
        await conversation.listen(session)
    else:
        extension["stay"] = partial(conversation.listen, session)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conversation:
    """What a socket holds on to for as long as it is there."""

    receive: Receive
    identity: Identity
    address: str
    request_id: str
    traced: Origin
    watched: Watched
    user_name: str
    viewer: Viewer
    parts: SocketParts

    async def listen(self, session: Session) -> int:
        """Take frames in their order until one side leaves; return the code it was closed with."""
        try:
            while (message := await self.receive())["type"] != "websocket.disconnect":
                data = message.get("text")
                for effect in session.receive(message["bytes"] if data is None else data, time.monotonic()):
                    match effect:
                        case Answer(body):
                            self.viewer.answer(body)
                        case Close(code, reason):
                            self.viewer.close(code, reason)
                        case Run(command, ref):
                            await self._run(command, ref)
        except RuntimeError:  # closed by us, on a server that forbids to read on
            return NORMAL
        finally:
            self.leave()
        return int(message.get("code") or LOST)

    def leave(self) -> None:
        """Give the places back."""
        self.parts.connections.leave(self.watched, self.viewer)
        self.parts.seats.leave(self.identity.user_id, self.address)

    async def _run(self, command: Command, ref: str | None) -> None:
        try:
            with self._surroundings(command):
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

    @contextmanager
    def _surroundings(self, command: Command) -> Iterator[None]:
        """Trace a command for itself, and let its lines in the log say so: a socket lives for a day."""
        telemetry = self.parts.telemetry
        if not telemetry.is_on or isinstance(command, Typing):
            yield
            return
        name = type(command).__name__.lower()
        attributes = {
            "http.route": ROUTE,
            "parley.command": name,
            "parley.request_id": self.request_id,
            "gen_ai.conversation.id": str(self.watched.conversation_id),
        }
        with (
            telemetry.serving(f"WS {name}", attributes, self.traced) as trace_id,
            structlog.contextvars.bound_contextvars(trace_id=trace_id),
        ):
            yield

    async def _do(self, command: Command, ref: str | None) -> bytes | None:
        chat, conversation_id = self.parts.chat, self.watched.conversation_id
        match command:
            case Chat(client_id=client_id, content=content, on_busy=on_busy):
                question = Question(content, conversation_id, client_id, on_busy)
                return _ack(ref, await chat.ask(self.identity, question))
            case Stop(message_id=message_id):
                await chat.stop(self.identity, message_id)
                return protocol.ack(ref, message_id, message_id)
            case Regenerate(message_id=message_id, client_id=client_id):
                return _ack(ref, await chat.again(self.identity, Again(message_id, client_id)))
            case Edit(message_id=message_id, content=content, client_id=client_id):
                return _ack(ref, await chat.again(self.identity, Again(message_id, client_id, content)))
            case Feedback(message_id=message_id, rating=rating, comment=comment):
                await self.parts.conversations.rate(self.identity, message_id, rating, comment)
                return protocol.ack(ref, message_id, message_id)
            case Typing(on=on):
                person: Any = {"id": self.identity.user_id, "name": self.user_name}
                self.parts.connections.hint(conversation_id, protocol.typing(person, on=on), but=self.viewer)
        return None

    def _error(self, code: str, message: str, ref: str | None, *, retryable: bool, param: str | None = None) -> bytes:
        view = protocol.error_view(code, message, retryable=retryable, param=param)
        return protocol.error(view, self.request_id, ref)


def _ack(ref: str | None, asked: Asked) -> bytes:
    return protocol.ack(ref, asked.message_id, asked.reply_id, duplicate=asked.is_duplicate)
