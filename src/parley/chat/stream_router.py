"""Asking and watching over HTTP and WebSocket. What is kept is `router`."""

import asyncio
from typing import Annotated, Any, ClassVar
from uuid import UUID

import orjson
import structlog
from fastapi import Header, Query, Request, Response, WebSocket
from starlette.requests import HTTPConnection

from parley.auth.dependencies import AdmittedUser, CurrentUser
from parley.auth.schemas import Identity
from parley.chat.connection import Payload, Viewer
from parley.chat.cursor import Position, cursor_prefix, decode_cursor, encode_cursor
from parley.chat.dependencies import Chat
from parley.chat.errors import ConversationNotFound
from parley.chat.protocol import CloseCode, ack
from parley.chat.schemas import AgainCommand, AskCommand, MessageCommand
from parley.chat.service import Again, Asked, Question
from parley.chat.sse import EventStream, StreamParts
from parley.chat.websocket import SocketParts, serve_socket
from parley.core.errors import Unprocessable
from parley.core.limits import General
from parley.core.problems import problems
from parley.core.routing import api_router

router = api_router("/chat", "chat")
STOP_WAIT_S = 2.0
Cursor = Annotated[str | None, Query(description="Go on from here.")]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", description="Beats `cursor`.")]


def _stream_parts(connection: HTTPConnection) -> StreamParts:
    state = connection.state
    return StreamParts(state.connections, state.seats, state.tasks, state.settings.chat.send_deadline_s)


@router.post(
    "/stream",
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events"}, **problems(401, 403, 404, 409)},
)
async def ask_and_watch(
    _: General,
    user: CurrentUser,
    chat: Chat,
    request: Request,
    command: AskCommand,
    *,
    cursor: Cursor = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Ask, and watch the answer; sent again with the same `client_id` and `Last-Event-ID` it goes on where it was."""
    cursor = last_event_id or cursor
    named = decode_cursor(cursor) if cursor else None
    conversation_id = command.conversation or (named.conversation_id if named else None)
    # Refused before anything is stored: who is refused asks again, and without a client_id that is another question.
    if named is not None and named.conversation_id != conversation_id:
        raise ConversationNotFound
    with request.state.seats.take(user.user_id, request.scope["client_address"].limit_key):
        if cursor and command.client_id is None:
            if conversation_id is None:
                raise Unprocessable("The cursor names no conversation; name one.", param="conversation_id")
            asked = None
        else:
            asked = await chat.ask(user, command.question(conversation_id))
            conversation_id = asked.conversation_id
        structlog.contextvars.bind_contextvars(conversation_id=str(conversation_id))
        position = named.position if named else None
        return await _stream(request, user, conversation_id, asked=asked, cursor=cursor, position=position)


async def _stream(
    request: Request,
    user: Identity,
    conversation_id: UUID,
    *,
    asked: Asked | None,
    cursor: str | None,
    position: Position | None,
) -> EventStream:
    parts, chat = _stream_parts(request), request.state.chat
    since = Position(asked.rev) if asked is not None and cursor is None else None
    fresh = asked.fresh if asked is not None and since is not None else None
    opening = await parts.connections.open(user, conversation_id, cursor, since, fresh=fresh)
    try:
        until = (
            asked.reply_id
            if asked is not None
            else await chat.find_due(conversation_id, position.reply if position else None)
        )
        is_over = until is None
        if until is not None and (asked is None or asked.is_duplicate or cursor is not None):
            ended_rev = await chat.find_end(until)
            told = {frame.ends for frame in opening.frames}
            is_over = ended_rev is not None and ended_rev <= opening.position.rev and until not in told
    except BaseException:
        parts.connections.leave(opening.watched)
        raise
    answers = []
    if asked is not None:
        answers.append(ack(None, asked.message_id, asked.reply_id, duplicate=asked.is_duplicate))
    return EventStream(user, opening, parts, answers=answers, until=until, is_over=is_over)


@router.get(
    "/conversations/{conversation_id}/stream",
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events"}, **problems(401, 403, 404)},
)
async def watch_stream(
    _: General,
    user: AdmittedUser,
    request: Request,
    conversation_id: UUID,
    cursor: Cursor = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Watch a conversation; does not end by itself."""
    parts = _stream_parts(request)
    with request.state.seats.take(user.user_id, request.scope["client_address"].limit_key):
        opening = await parts.connections.open(user, conversation_id, last_event_id or cursor)
        return EventStream(user, opening, parts)


@router.websocket("/ws/{conversation_id}")
async def watch_socket(_: General, socket: WebSocket, user: AdmittedUser, conversation_id: str) -> None:
    """Watch and take part; subprotocol `parley.v1`."""
    try:
        named = UUID(conversation_id)
    except ValueError:
        raise ConversationNotFound from None
    state = socket.state
    parts = SocketParts(
        state.chat,
        state.conversations,
        state.connections,
        state.seats,
        state.tasks,
        state.settings.chat.send_deadline_s,
        state.telemetry,
    )
    await serve_socket(socket, user, named, socket.query_params.get("cursor"), parts)


@router.post("/send", responses={202: {"description": "Not answered yet"}, **problems(401, 403, 404, 409)})
async def ask_and_wait(_: General, user: CurrentUser, chat: Chat, request: Request, command: AskCommand) -> Response:
    """Ask, and wait for the whole answer; 202 with what stands after a minute."""
    asked = await chat.ask(user, command.question(command.conversation))
    structlog.contextvars.bind_contextvars(conversation_id=str(asked.conversation_id))
    has_ended = await _wait_for(request, user, asked, request.state.settings.chat.send_wait_s)
    message, reply = await chat.read_pair(asked)
    body = {"conversation_id": asked.conversation_id, "message": message, "reply": reply}
    if not has_ended:
        body["cursor"] = _cursor(request, asked)
    return _json(body, 200 if has_ended else 202)


@router.post(
    "/conversations/{conversation_id}/messages",
    status_code=202,
    responses={200: {"description": "Asked before"}, **problems(401, 403, 404, 409)},
)
async def ask(
    _: General, user: CurrentUser, chat: Chat, request: Request, conversation_id: UUID, command: MessageCommand
) -> Response:
    """Ask, and be told at once what was stored; watch from `cursor`."""
    question = Question(command.content, conversation_id, command.client_id, command.on_busy)
    return await _accepted(request, await chat.ask(user, question))


@router.post(
    "/messages/{message_id}/regenerate",
    status_code=202,
    responses={200: {"description": "Asked before"}, **problems(401, 403, 404, 409)},
)
async def regenerate(
    _: General, user: CurrentUser, chat: Chat, request: Request, message_id: UUID, command: AgainCommand
) -> Response:
    """Answer the newest question again."""
    return await _accepted(request, await chat.again(user, Again(message_id, command.client_id)))


@router.post(
    "/messages/{message_id}/stop", responses={202: {"description": "Being stopped"}, **problems(401, 403, 404)}
)
async def stop(_: General, user: CurrentUser, chat: Chat, request: Request, message_id: UUID) -> Response:
    """Stop an answer, and wait a moment for its end."""
    asked = await chat.stop(user, message_id)
    has_ended = await _wait_for(request, user, asked, STOP_WAIT_S)
    reply = (await chat.read_pair(asked))[1]
    return _json({"message": reply}, 200 if has_ended else 202)


async def _accepted(request: Request, asked: Asked) -> Response:
    message, reply = await request.state.chat.read_pair(asked)
    body = {"message": message, "reply": reply, "cursor": _cursor(request, asked)}
    return _json(body, 200 if asked.is_duplicate else 202)


async def _wait_for(request: Request, user: Identity, asked: Asked, within_s: float) -> bool:
    """Return whether a reply ends within the time."""
    if asked.reply_id is None or await request.state.chat.find_end(asked.reply_id) is not None:
        return True
    parts = _stream_parts(request)
    opening = await parts.connections.open(user, asked.conversation_id, since=Position(asked.rev))
    viewer = Viewer(user, _Nowhere(), parts.tasks, deadline_s=within_s, until=asked.reply_id)
    try:
        parts.connections.enter(opening, viewer)
        async with asyncio.timeout(within_s):
            await viewer.wait_ended()
    except TimeoutError:
        return False
    finally:
        parts.connections.leave(opening.watched, viewer)
    return viewer.reached


def _cursor(request: Request, asked: Asked) -> str:
    """Return where to watch a question from: just before it."""
    prefix = cursor_prefix(request.state.database.timeline, asked.conversation_id)
    return encode_cursor(prefix, Position(asked.rev))


def _json(body: dict[str, Any], status: int) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


class _Nowhere:
    """For whoever waits for an end and wants to see nothing on the way."""

    kind: ClassVar[str] = ""
    sign_of_life: Payload | None = None

    def frame(self, body: bytes, cursor: str | None) -> Payload:  # noqa: ARG002  # there is nothing to frame
        return b""

    def write(self, payloads: Any) -> None: ...

    async def close(self, code: CloseCode, reason: str) -> None: ...

    def abort(self) -> None: ...
