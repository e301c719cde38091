"""The wire: what a client may ask, what it is told, and how both stand in a frame. Pure; all of it is DESIGN 4.1.

An event is made once as a *body*, the bytes of one JSON object; a frame adds the cursor of the viewer it goes to.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Literal, NotRequired, TypedDict
from uuid import UUID

import orjson

from parley.chat.commands import (
    CLIENT_ID,
    MAX_CONTENT_BYTES,
    BadFrame,
    Chat,
    Command,
    Edit,
    Feedback,
    OnBusy,
    Ping,
    Rating,
    Regenerate,
    Stop,
    Typing,
    encode_command,
    parse_command,
)

__all__ = [
    "CLIENT_ID",
    "MAX_CONTENT_BYTES",
    "BadFrame",
    "Chat",
    "Command",
    "Edit",
    "Feedback",
    "OnBusy",
    "Ping",
    "Rating",
    "Regenerate",
    "Stop",
    "Typing",
    "encode_command",
    "parse_command",
]

SUBPROTOCOL = "parley.v1"
LIVE = frozenset({"queued", "streaming", "stopping"})
"""States of a reply that has not ended."""

Role = Literal["user", "assistant", "operator", "notice"]
Status = Literal["queued", "streaming", "stopping", "complete", "stopped", "failed", "replaced", "deleted"]
End = Literal["complete", "stopped", "failed"]
Mode = Literal["ai", "human"]


class PersonView(TypedDict):
    """Somebody, as others see them; an account that is gone has no id."""

    id: UUID | str | None
    name: str


class UserView(PersonView):
    """Whom the connection belongs to."""

    role: str


class StepView(TypedDict):
    """A tool call of an ended reply: its `tool_call` and `tool_result` in one; `ok` is None where no result came."""

    call_id: str
    name: str
    label: str
    ok: bool | None
    summary: str
    arguments: NotRequired[Mapping[str, Any]]


class SourceView(TypedDict):
    """Where something was found, in the order of its citation number."""

    number: int
    id: str
    title: str
    url: str | None
    excerpt: str


class FeedbackView(TypedDict):
    """What the asker thought of a reply."""

    rating: Rating
    comment: str | None


class MessageView(TypedDict):
    """A row; until a reply ends its content, steps and sources are empty: the tape brings them."""

    id: UUID | str
    conversation_id: UUID | str
    seq: int
    rev: int
    role: Role
    content: str
    status: Status
    author: PersonView | None
    created_at: str
    client_id: str | None
    steps: Sequence[StepView]
    sources: Sequence[SourceView]
    replaces: UUID | str | None
    feedback: FeedbackView | None


class ConversationView(TypedDict):
    """A conversation, in the fields a viewer follows."""

    id: UUID | str
    title: str | None
    mode: Mode
    archived: bool
    rev: int


class ErrorView(TypedDict):
    """What went wrong, in the one shape of all errors."""

    code: str
    message: str
    retryable: bool
    param: str | None


class CloseCode(IntEnum):
    """Why a WebSocket ends."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_DATA = 1007
    TOO_BIG = 1009
    INTERNAL = 1011
    DRAINING = 1012
    TRY_LATER = 1013
    ABUSE = 4400
    TOKEN_STALE = 4401
    FORBIDDEN = 4403
    GONE = 4404
    SILENT = 4408
    OVER_LIMIT = 4429


Move = Literal["come_back", "later", "renew", "stay_away"]
"""What a client does next; all waits are jittered, and `later` begins with a long one."""

NEXT_MOVE: Mapping[int, Move] = {
    CloseCode.NORMAL: "stay_away",
    CloseCode.GOING_AWAY: "come_back",
    # The client's own fault, so only slowly: at once it would do the same again.
    CloseCode.PROTOCOL_ERROR: "later",
    CloseCode.INVALID_DATA: "later",
    CloseCode.TOO_BIG: "later",
    CloseCode.INTERNAL: "come_back",
    CloseCode.DRAINING: "come_back",
    CloseCode.TRY_LATER: "come_back",
    CloseCode.ABUSE: "stay_away",
    CloseCode.TOKEN_STALE: "renew",
    CloseCode.FORBIDDEN: "stay_away",
    CloseCode.GONE: "stay_away",
    CloseCode.SILENT: "later",
    CloseCode.OVER_LIMIT: "later",
}


def next_move(code: int) -> Move:
    """Return what a client does after a close; a lost connection (1006) and codes of later versions: come back."""
    return NEXT_MOVE.get(code, "come_back")


def moment(when: datetime) -> str:
    """Return a time as it stands on the wire: RFC 3339, UTC, milliseconds."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def error_view(code: str, message: str, *, retryable: bool = False, param: str | None = None) -> ErrorView:
    """Return an error as `error` and `complete` carry it."""
    return {"code": code, "message": message, "retryable": retryable, "param": param}


def ready(conversation: ConversationView, user: UserView, heartbeat_s: float) -> bytes:
    """First on every connection."""
    shown = {name: conversation[name] for name in ("id", "title", "mode")}
    return _body("ready", protocol=SUBPROTOCOL, conversation=shown, user=user, heartbeat_s=heartbeat_s)


def ack(ref: str | None, message_id: UUID, reply_id: UUID | None, *, duplicate: bool = False) -> bytes:
    """A command was taken."""
    return _body("ack", ref=ref, message_id=message_id, reply_id=reply_id, duplicate=duplicate)


def message(view: MessageView) -> bytes:
    """A row is new or changed."""
    return _body("message", message=view)


def conversation(view: ConversationView) -> bytes:
    """The conversation itself changed."""
    changed = {name: view[name] for name in ("title", "mode", "archived", "rev")}
    return _body("conversation", **changed)


def start(message_id: UUID, attempt: int, agent: str, model: str) -> bytes:
    """An attempt begins."""
    return _body("start", message_id=message_id, attempt=attempt, agent=agent, model=model)


def token_head(message_id: UUID) -> bytes:
    """Return what all tokens of a reply begin with: made once, because an id costs more than its text."""
    return b'{"type":"token","message_id":"%b","content":' % str(message_id).encode()


def token(head: bytes, content: str) -> bytes:
    """Text grows; the hot path."""
    return head + orjson.dumps(content) + b"}"


def tool_call(
    message_id: UUID, call_id: str, name: str, label: str, arguments: Mapping[str, Any] | None = None
) -> bytes:
    """A tool is at work; arguments only of tools declared public."""
    shown = {} if arguments is None else {"arguments": arguments}
    return _body("tool_call", message_id=message_id, call_id=call_id, name=name, label=label, **shown)


def tool_result(message_id: UUID, call_id: str, *, ok: bool, summary: str) -> bytes:
    """A tool is done."""
    return _body("tool_result", message_id=message_id, call_id=call_id, ok=ok, summary=summary)


def sources(message_id: UUID, found: Sequence[SourceView]) -> bytes:
    """Citations, added to those before."""
    return _body("sources", message_id=message_id, sources=found)


def status(message_id: UUID, state: str, label: str) -> bytes:
    """What goes on, for people; not replayed."""
    return _body("status", message_id=message_id, state=state, label=label)


def restart(message_id: UUID, attempt: int) -> bytes:
    """Forget the text so far."""
    return _body("restart", message_id=message_id, attempt=attempt)


def complete(
    message_id: UUID,
    status: End,
    finish_reason: str | None,
    content_length: int,
    content_sha256: str,
    *,
    error: ErrorView | None = None,
) -> bytes:
    """A reply ended."""
    shown = {} if error is None else {"error": error}
    return _body(
        "complete",
        message_id=message_id,
        status=status,
        finish_reason=finish_reason,
        content_length=content_length,
        content_sha256=content_sha256,
        **shown,
    )


def reset(reason: str, conversation: ConversationView, messages: Sequence[MessageView], *, has_more: bool) -> bytes:
    """Replaces all the client holds."""
    return _body("reset", reason=reason, conversation=conversation, messages=messages, has_more=has_more)


def typing(user: PersonView, *, on: bool) -> bytes:
    """Somebody else types; not replayed."""
    return _body("typing", user=user, on=on)


def error(view: ErrorView, request_id: str, ref: str | None = None) -> bytes:
    """The frame or request failed."""
    shown = {} if ref is None else {"ref": ref}
    return _body("error", error=view, request_id=request_id, **shown)


def draining(reconnect_in_ms: int) -> bytes:
    """This worker is going away."""
    return _body("draining", reconnect_in_ms=reconnect_in_ms)


def pong() -> bytes:
    """Yes, somebody is there."""
    return b'{"type":"pong"}'


def ws_frame(body: bytes, cursor: str | None) -> str:
    """Return the body with its cursor as first member `id`. Text, because the server sends bytes as a binary frame."""
    return ws_text(body, cursor).decode()


def ws_text(body: bytes, cursor: str | None) -> bytes:
    """Return the same in UTF-8."""
    return body if cursor is None else b'{"id":"%b",%b' % (cursor.encode(), body[1:])


SSE_DONE = b"data: [DONE]\n\n"
SSE_COMMENT = b":\n\n"
# JSON escapes what ends a line in SSE, but many clients cut lines where Unicode does.
_LINE_ENDS = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


def sse_frame(body: bytes, cursor: str | None) -> bytes:
    """Return the body as one event; nothing inside can end it, because JSON text holds no line end."""
    # Nearly every text that is not ASCII has none of them: two looks cost less than three copies.
    if not body.isascii() and (b"\xe2\x80" in body or b"\xc2\x85" in body):
        for end, escaped in _LINE_ENDS:
            body = body.replace(end, escaped)
    return b"data: %b\n\n" % body if cursor is None else b"id: %b\ndata: %b\n\n" % (cursor.encode(), body)


def _body(kind: str, **fields: Any) -> bytes:
    return orjson.dumps({"type": kind, **fields})
