"""What a client asks for over a WebSocket: frames to typed commands, or to a named error that repeats nothing. Pure.

Does not know who asks, whether it is allowed, or what it does.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from uuid import UUID

import msgspec
import orjson

MAX_CONTENT_BYTES = 32 * 1024
MAX_COMMENT_CHARACTERS = 2000  # a few paragraphs beside a thumb

OnBusy = Literal["queue", "reject", "interrupt"]
Rating = Literal["up", "down"]

CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
# What PostgreSQL's text and UTF-8 cannot hold.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
# A name that is not ours may be anything, a password that slipped out of its field too: only these are repeated.
_OUR_STYLE = re.compile(r"[a-z_]{1,32}\Z")


class _Command(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower):
    @property
    def ref(self) -> str | None:
        """What its answer is named by."""
        return getattr(self, "client_id", None) or (str(self.message_id) if hasattr(self, "message_id") else None)


class Chat(_Command, frozen=True):
    """Ask."""

    client_id: str
    content: str
    on_busy: OnBusy = "queue"


class Stop(_Command, frozen=True):
    """End a reply now."""

    message_id: UUID


class Regenerate(_Command, frozen=True):
    """Answer the newest question again."""

    message_id: UUID
    client_id: str


class Edit(_Command, frozen=True):
    """Put another question in the place of the newest."""

    message_id: UUID
    content: str
    client_id: str


class Typing(_Command, frozen=True):
    """Somebody types, or no longer does."""

    on: bool


class Feedback(_Command, frozen=True):
    """Rate a reply; None takes the rating back."""

    message_id: UUID
    rating: Rating | None
    comment: str | None = None


class Ping(_Command, frozen=True):
    """Is anybody there?"""


Command = Chat | Stop | Regenerate | Edit | Typing | Feedback | Ping


@dataclass(frozen=True, slots=True)
class BadFrame:
    """Why a frame is no command, in words that are safe to send back."""

    code: str
    message: str
    param: str | None = None
    ref: str | None = None


class _Wrong(Exception):
    MESSAGES: ClassVar = {
        "wrong_type": "The field has the wrong type.",
        "invalid_value": "The field has a value it cannot have.",
        "invalid_text": "The text must not contain NUL or unpaired surrogates.",
        "empty": "The text is empty.",
        "too_long": "The text is too long.",
    }

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def parse_command(data: str | bytes) -> Command | BadFrame:
    """Return the command of a frame; never raises. Of a name that comes twice the last value counts."""
    try:
        frame = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _unreadable(error.msg)
    if not isinstance(frame, dict):
        return BadFrame("not_an_object", "The frame is not a JSON object.")
    kind = frame.get("type")
    command = _COMMANDS.get(kind) if isinstance(kind, str) else None
    if command is None:
        return BadFrame("unknown_type", "There is no command of this type.", "type", _readable_ref(frame))
    return _odd_field(frame, command) or _read(frame, command)


def encode_command(command: Command) -> str:
    """Return the frame of a command, as a client sends it."""
    return msgspec.json.encode(command).decode()


def _unreadable(reason: str) -> BadFrame:
    reason = reason.lower()
    if "surrogate" in reason:
        return BadFrame("invalid_text", _Wrong.MESSAGES["invalid_text"])
    if "depth" in reason:
        return BadFrame("too_deep", "The frame is nested too deeply.")
    return BadFrame("invalid_json", "The frame is not valid JSON.")


def _odd_field(frame: dict[str, Any], command: type[Command]) -> BadFrame | None:
    allowed = _ALLOWED[command]
    for name in frame:
        if name not in allowed:
            param = name if _OUR_STYLE.match(name) else None
            return BadFrame("unknown_field", "The command has no such field.", param, _readable_ref(frame))
    for name in _REQUIRED[command]:
        if name not in frame:
            return BadFrame("missing_field", "A field is missing.", name, _readable_ref(frame))
    return None


def _read(frame: dict[str, Any], command: type[Command]) -> Command | BadFrame:
    values: dict[str, Any] = {}
    for name in command.__struct_fields__:
        if name not in frame:
            continue
        try:
            values[name] = _READERS[name](frame[name])
        except _Wrong as wrong:
            return BadFrame(wrong.code, _Wrong.MESSAGES[wrong.code], name, _readable_ref(frame))
    return command(**values)


def _readable_ref(frame: dict[str, Any]) -> str | None:
    """Only what looks like an id goes back."""
    for name, form in (("client_id", CLIENT_ID), ("message_id", _UUID)):
        value = frame.get(name)
        if isinstance(value, str) and form.match(value):
            return value
    return None


def _text(value: object, max_characters: int) -> str:
    if not isinstance(value, str):
        raise _Wrong("wrong_type")
    if len(value) > max_characters:
        raise _Wrong("too_long")
    if _UNSTORABLE.search(value):
        raise _Wrong("invalid_text")
    return value


def _content(value: object) -> str:
    # Characters first: nothing is encoded that is too long anyway.
    text = _text(value, MAX_CONTENT_BYTES)
    if not text.isascii() and len(text.encode()) > MAX_CONTENT_BYTES:
        raise _Wrong("too_long")
    if not text or text.isspace():
        raise _Wrong("empty")
    return text


def _comment(value: object) -> str | None:
    return None if value is None else _text(value, MAX_COMMENT_CHARACTERS)


def _client_id(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong("wrong_type")
    if not CLIENT_ID.match(value):
        raise _Wrong("invalid_value")
    return value


def _message_id(value: object) -> UUID:
    if not isinstance(value, str):
        raise _Wrong("wrong_type")
    if not _UUID.match(value):
        raise _Wrong("invalid_value")
    return UUID(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("wrong_type")
    return value


def _choice(*choices: str | None) -> Callable[[object], str | None]:
    def read(value: object) -> str | None:
        if value is not None and not isinstance(value, str):
            raise _Wrong("wrong_type")
        if value not in choices:
            raise _Wrong("invalid_value" if value is not None else "wrong_type")
        return value

    return read


# A field means the same in every command.
_READERS: dict[str, Callable[[object], Any]] = {
    "client_id": _client_id,
    "message_id": _message_id,
    "content": _content,
    "on_busy": _choice("queue", "reject", "interrupt"),
    "on": _flag,
    "rating": _choice("up", "down", None),
    "comment": _comment,
}
_COMMANDS: dict[str, type[Command]] = {
    kind.__name__.lower(): kind for kind in (Chat, Stop, Regenerate, Edit, Typing, Feedback, Ping)
}
_ALLOWED = {kind: frozenset(("type", *kind.__struct_fields__)) for kind in _COMMANDS.values()}
_REQUIRED = {
    kind: kind.__struct_fields__[: len(kind.__struct_fields__) - len(kind.__struct_defaults__)]
    for kind in _COMMANDS.values()
}
