"""What one attempt at a reply has written: its text and, between the characters, its other events, by position. Pure.

Position `n` counts code points, and one for every other event. Pieces that overlap, or were cut elsewhere, still fit.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from uuid import UUID

from parley.chat.protocol import token_head

Part = str | bytes
"""Text, or the body of another event as it goes over the wire."""

# At most six bytes for a code point in JSON: an entry of text stays below the 32 KiB of DESIGN 4.5.
ENTRY_POSITIONS = 5_000


def length_of(part: Part) -> int:
    """Return how many positions a part takes."""
    return len(part) if isinstance(part, str) else 1


class Tape:
    """The tape of (message, attempt): written by one, copied by many."""

    __slots__ = ("_parts", "_starts", "attempt", "end", "head", "message_id", "text_bytes")

    def __init__(self, message_id: UUID, attempt: int) -> None:
        self.message_id = message_id
        self.attempt = attempt
        self.end = 0
        self.text_bytes = 0
        self.head = token_head(message_id)
        self._starts: list[int] = []
        self._parts: list[Part] = []

    def write(self, part: Part) -> None:
        """Add a part at the end."""
        if not part:
            return
        self._starts.append(self.end)
        self._parts.append(part)
        self.end += length_of(part)
        if isinstance(part, str):
            self.text_bytes += len(part) if part.isascii() else len(part.encode())

    def merge(self, start: int, parts: Sequence[Part]) -> bool:
        """Take what continues this copy and skip what it has; False where something between is missing."""
        if start > self.end:
            return False
        position = start
        for part in parts:
            length = length_of(part)
            if position + length > self.end:
                self.write(part[self.end - position :] if isinstance(part, str) else part)
            position += length
        return True

    def after(self, n: int) -> list[tuple[int, Part]]:
        """Return what follows position `n`, each part with the position behind it; neighbouring text is joined."""
        if n >= self.end:
            return []
        followers: list[tuple[int, Part]] = []
        texts: list[str] = []
        first = bisect_right(self._starts, n) - 1
        position = self._starts[first]
        for part in self._parts[first:]:
            skip = max(n - position, 0)
            position += length_of(part)
            if isinstance(part, str):
                texts.append(part[skip:] if skip else part)
                continue
            if texts:
                followers.append((position - 1, "".join(texts)))
                texts = []
            if not skip:
                followers.append((position, part))
        if texts:
            followers.append((position, "".join(texts)))
        return followers

    def entry(self, start: int) -> tuple[int, list[Part]]:
        """Return a stretch from `start` that fits one entry of the log: its end and its parts."""
        stop = min(self.end, start + ENTRY_POSITIONS)
        if start >= stop:
            return start, []
        parts: list[Part] = []
        first = bisect_right(self._starts, start) - 1
        position = self._starts[first]
        for part in self._parts[first:]:
            if position >= stop:
                break
            following = position + length_of(part)
            if isinstance(part, str):
                parts.append(part[max(start - position, 0) : stop - position])
            elif position >= start:
                parts.append(part)
            position = following
        return stop, parts

    def text(self) -> str:
        """Return all text so far."""
        return "".join(part for part in self._parts if isinstance(part, str))

    def digest(self) -> tuple[int, str]:
        """Return the length of all text in bytes of UTF-8 and its SHA-256: what `complete` carries."""
        return digest(self.text())


def digest(text: str) -> tuple[int, str]:
    """Return length and hash of a whole text, as clients verify them."""
    data = text.encode()
    return len(data), hashlib.sha256(data).hexdigest()
