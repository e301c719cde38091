"""One WebSocket's state machine: frames in, effects out. Pure; never awaits, and never raises for a client's fault.

Decides what a connection may do now, and nothing about conversations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from parley.chat.commands import BadFrame, Command, Ping, Typing, parse_command
from parley.chat.protocol import CloseCode, ErrorView, error, error_view, pong


@dataclass(frozen=True, slots=True)
class Run:
    """Do this; its answer, an `ack` or an `error`, is named by `ref`."""

    command: Command
    ref: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell this connection."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection; nothing follows."""

    code: CloseCode
    reason: str


Effect = Run | Answer | Close


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one socket may do: bursts, and what comes back each second."""

    frames: int = 40  # a page that woke up sends all its unanswered commands at once
    frames_per_s: float = 10.0  # no person is faster
    bytes: int = 256 * 1024  # four of the largest frames
    bytes_per_s: float = 32 * 1024.0  # one longest message each second
    refusals: int = 20  # so many frames over the rate are told so; then it is no accident
    refusals_per_s: float = 0.5
    strikes: int = 10  # a client of another version is wrong about a few fields, not about each frame
    strikes_per_s: float = 0.05
    answers: int = 32  # DESIGN 4.5: own answers that wait for this connection
    typing: int = 4
    typing_per_s: float = 0.5  # what others see is not finer
    typing_again_s: float = 2.0  # the same is told again only to say that it goes on


class Bucket:
    """Holds so much, and fills again with time."""

    __slots__ = ("_at", "_capacity", "_level", "_per_s")

    def __init__(self, capacity: float, per_s: float, now: float) -> None:
        self._capacity = self._level = float(capacity)
        self._per_s = per_s
        self._at = now

    def take(self, amount: float, now: float) -> bool:
        """Take the amount, or nothing where it is not there."""
        if now > self._at:
            self._level = min(self._capacity, self._level + (now - self._at) * self._per_s)
            self._at = now
        if amount > self._level:
            return False
        self._level -= amount
        return True


class Session:
    """What one connection has done so far, and what follows from its next frame."""

    def __init__(self, limits: SessionLimits, request_id: str, *, now: float, may_write: bool = True) -> None:
        self.is_closed = False
        self._limits = limits
        self._request_id = request_id
        self._may_write = may_write
        self._pending = 0
        self._frames = Bucket(limits.frames, limits.frames_per_s, now)
        self._bytes = Bucket(limits.bytes, limits.bytes_per_s, now)
        self._refusals = Bucket(limits.refusals, limits.refusals_per_s, now)
        self._strikes = Bucket(limits.strikes, limits.strikes_per_s, now)
        self._typing = Bucket(limits.typing, limits.typing_per_s, now)
        self._last_typing: tuple[bool, float] = (False, float("-inf"))

    def receive(self, data: str | bytes, now: float) -> Sequence[Effect]:
        """Take one frame, text or binary."""
        if self.is_closed:
            return ()
        is_text = isinstance(data, str)
        # Both are charged, or a flood of the one would leave the other full.
        has_frame, has_bytes = self._frames.take(1, now), self._bytes.take(_size(data), now)
        command = parse_command(data) if is_text else BadFrame("unsupported", "Binary frames are not understood.")
        if not (has_frame and has_bytes):
            return self._refuse(command, now)
        return self._strike(command, now) if isinstance(command, BadFrame) else self._take(command, now)

    def answered(self, count: int = 1) -> None:
        """So many own answers went out: each `Answer`, and the `ack` or `error` of each `Run` that has a `ref`."""
        self._pending = max(self._pending - count, 0)

    def _take(self, command: Command, now: float) -> Sequence[Effect]:
        if isinstance(command, Ping):
            return self._owe(Answer(pong()))
        if isinstance(command, Typing):
            return (Run(command, None),) if self._may_write and self._is_news(command, now) else ()
        if not self._may_write:
            return self._owe(self._error(error_view("forbidden", "You may read here, and not write."), command.ref))
        return self._owe(Run(command, command.ref))

    def _owe(self, effect: Run | Answer) -> Sequence[Effect]:
        if self._pending >= self._limits.answers:
            return self._close(CloseCode.OVER_LIMIT, "too many answers pending")
        self._pending += 1
        return (effect,)

    def _strike(self, frame: BadFrame, now: float) -> Sequence[Effect]:
        if not self._strikes.take(1, now):
            return self._close(CloseCode.ABUSE, "too many bad frames")
        return self._owe(self._error(error_view(frame.code, frame.message, param=frame.param), frame.ref))

    def _refuse(self, command: Command | BadFrame, now: float) -> Sequence[Effect]:
        if not self._refusals.take(1, now):
            return self._close(CloseCode.OVER_LIMIT, "over the rate for too long")
        if isinstance(command, Typing):
            return ()
        view = error_view("rate_limited", "Too many frames. Please slow down.", retryable=True)
        return self._owe(self._error(view, command.ref))

    def _is_news(self, command: Typing, now: float) -> bool:
        was_on, at = self._last_typing
        if command.on == was_on and (not was_on or now - at < self._limits.typing_again_s):
            return False
        # An end is always told, or somebody would seem to type forever; there are no more of them than beginnings.
        if command.on and not self._typing.take(1, now):
            return False
        self._last_typing = (command.on, now)
        return True

    def _error(self, view: ErrorView, ref: str | None) -> Answer:
        return Answer(error(view, self._request_id, ref))

    def _close(self, code: CloseCode, reason: str) -> Sequence[Effect]:
        self.is_closed = True
        return (Close(code, reason),)


def _size(data: str | bytes) -> int:
    return len(data.encode(errors="surrogatepass")) if isinstance(data, str) and not data.isascii() else len(data)
