"""A viewer's cursor as one opaque string, and back. Pure; whoever tampers with it reaches nothing but positions."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

MAX_CHARACTERS = 128
_FORM = re.compile(
    r"1\.(?P<timeline>[0-9a-z]{1,13}-[0-9A-F]{8})\.(?P<conversation>[\w-]{22})\.(?P<rev>\d{1,18})"
    r"\.(?P<reply>[\w-]{22})?\.(?P<attempt>\d{1,9})\.(?P<n>\d{1,9})\Z",
    re.ASCII,
)


class Position(NamedTuple):
    """What a viewer has been given: rows up to `rev`, and of the live reply's attempt everything up to `n`."""

    rev: int = 0
    reply: UUID | None = None
    attempt: int = 0
    n: int = 0


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position, and in which history of which conversation it means something."""

    timeline: str
    """Of the database: another one makes every cursor void."""
    conversation_id: UUID
    position: Position


def cursor_prefix(timeline: str, conversation_id: UUID) -> str:
    """Return the part that all cursors of a conversation begin with."""
    return f"1.{timeline}.{_short(conversation_id)}."


def encode_cursor(prefix: str, position: Position) -> str:
    """Return the string a client gives back."""
    reply = "" if position.reply is None else _short(position.reply)
    return f"{prefix}{position.rev}.{reply}.{position.attempt}.{position.n}"


def decode_cursor(text: str) -> Cursor | None:
    """Return what a client gave back, None where it is nothing of ours."""
    if len(text) > MAX_CHARACTERS or (match := _FORM.match(text)) is None:
        return None
    reply = match["reply"]
    position = Position(int(match["rev"]), _long(reply) if reply else None, int(match["attempt"]), int(match["n"]))
    return Cursor(match["timeline"], _long(match["conversation"]), position)


def _short(identifier: UUID) -> str:
    return urlsafe_b64encode(identifier.bytes)[:22].decode()


def _long(text: str) -> UUID:
    return UUID(bytes=urlsafe_b64decode(text + "=="))
