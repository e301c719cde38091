"""What goes into the log of a reply, what stands in it, and where it ends. Pure."""

from typing import NamedTuple


class Write(NamedTuple):
    """A stretch of a tape for its log and channel; without an entry it keeps the log alive and asks for its end."""

    key: str
    channel: str
    attempt: int
    start: int
    end: int
    entry: bytes = b""


class End(NamedTuple):
    """Where a log ends. (0, 0): there is none."""

    attempt: int
    n: int


class Entry(NamedTuple):
    """A stored stretch that ends at (attempt, end)."""

    attempt: int
    end: int
    data: bytes
