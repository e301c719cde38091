"""What workers tell each other through Redis: names, and the three kinds of news. Pure.

Every payload begins with a format version and the boot id of who sent it: an echo is dropped without decoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from parley.chat.tape import Part

VERSION = b"1"
BOOT_CHARACTERS = 32
TAPE, ROWS, EPHEMERAL = b"t", b"r", b"e"
_HEAD = len(VERSION) + BOOT_CHARACTERS + 1


@dataclass(frozen=True, slots=True)
class TapeEntry:
    """A stretch of a tape, as it stands in the log and on the channel."""

    message_id: UUID
    attempt: int
    start: int
    end: int
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class RowNews:
    """Changed rows, in order."""

    changes: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class EphemeralNews:
    """The body of an event that is not replayed."""

    body: bytes


News = TapeEntry | RowNews | EphemeralNews


def channel_of(conversation_id: UUID) -> str:
    """Return the channel of a conversation; the braces keep its keys on one node of a cluster."""
    return f"parley:{{{conversation_id.hex}}}"


def log_key_of(conversation_id: UUID, message_id: UUID) -> str:
    """Return the log of a reply."""
    return f"parley:{{{conversation_id.hex}}}:tape:{message_id.hex}"


def control_key_of(boot_id: UUID) -> str:
    """Return the stream in which a worker is told to stop replies."""
    return f"parley:ctl:{boot_id.hex}"


def encode_tape(boot_id: UUID, entry: TapeEntry) -> bytes:
    """Return an entry as it is stored and published."""
    parts = [part if isinstance(part, str) else orjson.Fragment(part) for part in entry.parts]
    return _head(boot_id, TAPE) + orjson.dumps([entry.message_id, entry.attempt, entry.start, entry.end, parts])


def encode_rows(boot_id: UUID, changes: Sequence[dict[str, Any]]) -> bytes:
    """Return changed rows as they are published."""
    return _head(boot_id, ROWS) + orjson.dumps(changes)


def encode_ephemeral(boot_id: UUID, body: bytes) -> bytes:
    """Return an event that is not replayed as it is published."""
    return _head(boot_id, EPHEMERAL) + body


def is_from(boot_id: UUID, data: bytes) -> bool:
    """Whether this worker sent it itself."""
    return data[len(VERSION) : _HEAD - 1] == boot_id.hex.encode()


def decode(data: bytes) -> News | None:
    """Return the news, None for what a worker of another version may have sent."""
    if not data.startswith(VERSION):
        return None
    kind = data[_HEAD - 1 : _HEAD]
    try:
        if kind == TAPE:
            message_id, attempt, start, end, parts = orjson.loads(data[_HEAD:])
            kept = [part if isinstance(part, str) else orjson.dumps(part) for part in parts]
            return TapeEntry(UUID(message_id), attempt, start, end, kept)
        if kind == ROWS:
            return RowNews(orjson.loads(data[_HEAD:]))
    except (ValueError, TypeError):
        return None
    return EphemeralNews(data[_HEAD:]) if kind == EPHEMERAL else None


def _head(boot_id: UUID, kind: bytes) -> bytes:
    return VERSION + boot_id.hex.encode() + kind
