"""Who came and went: the demo server's own record of connections and calls, with monotonic times. Bounded; no I/O."""

import asyncio
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from parley.core.clock import Clock

KEPT = 1000  # calls that are remembered


@dataclass(slots=True)
class Call:
    """One request and what became of it. Times are seconds of the machine's monotonic clock."""

    method: str
    path: str
    has_key: bool
    """Whether it came with an Authorization header."""
    connection: int
    began_at: float
    model: str = ""
    script: str = ""
    first_byte_at: float | None = None
    ended_at: float | None = None
    gone_at: float | None = None
    """When the close of the client's side arrived while this call was under way."""
    outcome: str = "open"
    sent_bytes: int = 0


@dataclass(slots=True)
class Visit:
    """One connection."""

    number: int
    opened_at: float
    closed_at: float | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    call: Call | None = None

    def leave(self, now: float) -> None:
        """The client's side was closed; only the first sight counts."""
        if self.closed_at is None:
            self.closed_at = now
            if self.call is not None and self.call.ended_at is None:
                self.call.gone_at = now
        self.gone.set()


class Traffic:
    """The record."""

    def __init__(self, clock: Clock) -> None:
        self.opened = 0
        self.number = 0
        """Of the newest call."""
        self.calls: deque[Call] = deque(maxlen=KEPT)
        self._clock = clock
        self._open: dict[int, Visit] = {}

    @property
    def open(self) -> int:
        """How many connections are open on either side."""
        return len(self._open)

    @property
    def under_way(self) -> int:
        """How many calls are being answered."""
        return sum(visit.call is not None and visit.call.ended_at is None for visit in self._open.values())

    def arrive(self) -> Visit:
        self.opened += 1
        visit = self._open[self.opened] = Visit(self.opened, self._clock.monotonic())
        return visit

    def leave(self, visit: Visit) -> None:
        """The client closed its side, or was lost."""
        visit.leave(self._clock.monotonic())

    def forget(self, visit: Visit) -> None:
        """The connection is closed on both sides."""
        self.leave(visit)
        self._open.pop(visit.number, None)

    def begin(self, visit: Visit, *, method: str, path: str, has_key: bool) -> Call:
        self.number += 1
        call = Call(method, path, has_key, visit.number, self._clock.monotonic())
        visit.call = call
        self.calls.append(call)
        return call

    def end(self, call: Call, outcome: str) -> None:
        if call.ended_at is None:
            call.ended_at = self._clock.monotonic()
            call.outcome = outcome

    def as_json(self) -> dict[str, Any]:
        """Return what `/stats` answers."""
        return {
            "now": self._clock.monotonic(),
            "opened": self.opened,
            "open": self.open,
            "under_way": self.under_way,
            "calls": [asdict(call) for call in self.calls],
        }
