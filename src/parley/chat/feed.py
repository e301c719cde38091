"""One tape on its way to Redis: what is confirmed, what to send next, what an answer means. Pure.

The writer's memory is the source. Redis may have lost everything, or have more than it could say: only what it answers
last is believed.
"""

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from uuid import UUID

from parley.chat.tape import Part, Tape
from parley.chat.wire import TapeEntry, channel_of, encode_tape, log_key_of
from parley.core.fanout.entries import End, Write

IDLE_S = 1.0  # a log that Redis lost is found empty within a second, also where the model is silent


class Fate(Enum):
    """What becomes of a tape after an answer."""

    GOES_ON = auto()
    DONE = auto()
    FENCED = auto()


class Feed:
    """A tape and what its log is known to hold of it."""

    def __init__(self, tape: Tape, conversation_id: UUID) -> None:
        self.tape = tape
        self.confirmed = 0
        self.gives_up_at: float | None = None
        self._sent_at = float("-inf")
        self._key = log_key_of(conversation_id, tape.message_id)
        self._channel = channel_of(conversation_id)

    @property
    def has_news(self) -> bool:
        """Whether something follows what is confirmed."""
        return self.tape.end > self.confirmed

    def due_at(self) -> float:
        """Return when the log is to be asked for its end, if nothing is sent before."""
        return self._sent_at + IDLE_S

    def writes(self, boot_id: UUID, now: float, most_bytes: int) -> list[Write]:
        """Return what to send now, in order: all that is not confirmed, but little more than `most_bytes`."""
        if not self.has_news:
            if now < self.due_at():
                return []
            self._sent_at = now
            return [self._write(self.confirmed, self.confirmed, b"")]
        writes, start, size = [], self.confirmed, 0
        while start < self.tape.end and size < most_bytes:
            end, parts = self.tape.entry(start)
            entry = self._encode(boot_id, start, end, parts)
            writes.append(self._write(start, end, entry))
            start, size = end, size + len(entry)
        self._sent_at = now
        return writes

    def learn(self, answers: Iterable[End | None]) -> Fate:
        """Take the answers to what was sent, in its order."""
        attempt = self.tape.attempt
        for answer in answers:
            if answer is None:
                continue
            if answer.attempt > attempt:
                return Fate.FENCED
            self.confirmed = answer.n if answer.attempt == attempt else 0
        return Fate.DONE if self.gives_up_at is not None and not self.has_news else Fate.GOES_ON

    def _write(self, start: int, end: int, entry: bytes) -> Write:
        return Write(self._key, self._channel, self.tape.attempt, start, end, entry)

    def _encode(self, boot_id: UUID, start: int, end: int, parts: Sequence[Part]) -> bytes:
        return encode_tape(boot_id, TapeEntry(self.tape.message_id, self.tape.attempt, start, end, parts))
