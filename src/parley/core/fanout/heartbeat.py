"""Whether what we publish comes back to us, on time. Pure: the time is handed in.

A connection that hangs raises nothing, for minutes; its only sign is what does not arrive.
"""

from collections import deque

BEAT_S = 1.0
CHECK_S = 0.5
LATE_S = 1.5  # what was published meanwhile may be late or lost: worth reading the truth
LOST_S = 3.0
STALLED_S = 0.5  # this process slept itself: echoes may lie unread in its own socket


class Heartbeat:
    """The beats of one connection."""

    def __init__(self, now: float, heard_at: float | None = None) -> None:
        self.heard_at = now if heard_at is None else heard_at
        self._sent: deque[tuple[int, float]] = deque()
        self._number = 0
        self._beat_at = now
        self._checked_at = now
        self._was_late = False

    def check_in_s(self, now: float) -> float:
        """Return how long to listen until the next check."""
        return max(0.0, min(self._checked_at + CHECK_S, self._beat_at) - now)

    def beat(self, now: float) -> bytes | None:
        """Return the beat to publish now, if one is due."""
        if now < self._beat_at:
            return None
        self._number += 1
        self._beat_at = now + BEAT_S
        self._sent.append((self._number, now))
        return b"%d" % self._number

    def heard(self, beat: bytes, now: float) -> None:
        """Take an echo; the beats before it are as good as heard."""
        self.heard_at = now
        number = int(beat)
        while self._sent and self._sent[0][0] <= number:
            self._sent.popleft()

    def check(self, now: float) -> tuple[bool, bool]:
        """Return whether echoes have just become late, and whether the connection is lost."""
        stalled = now - self._checked_at > CHECK_S + STALLED_S
        self._checked_at = now
        if stalled:
            return False, False
        late_s = now - self._sent[0][1] if self._sent else 0.0
        becomes_late = late_s > LATE_S and not self._was_late
        self._was_late = late_s > LATE_S
        return becomes_late, late_s > LOST_S
