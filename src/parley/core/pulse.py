"""The pulse of the event loop: how late it is, and since when it has not come round. Decides nothing."""

import time
from collections import deque

from parley.core.clock import Clock

EVERY_S = 0.05
WORST_OVER_S = 10.0
RECENT = 3  # beats: one hiccup, of a start or a neighbour on the machine, is no load


class Pulse:
    """Felt twenty times a second on the loop; may be read from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.beats = 0
        """Stands still while the loop is held."""
        self.is_felt = False
        """Whether it is being felt: not before the start, nor after the end."""
        self.lag_s = 0.0
        """How late the loop was at the last beat."""
        self.recent: deque[float] = deque(maxlen=RECENT)
        """The same of the last few."""
        self._worst: deque[tuple[float, float]] = deque()

    @property
    def worst_lag_s(self) -> float:
        """How late it was at worst lately."""
        self._forget(time.monotonic())
        return self._worst[0][1] if self._worst else 0.0

    async def feel(self) -> None:
        """Feel it, for ever."""
        self.is_felt = True
        try:
            while True:
                before = time.monotonic()
                await self._clock.sleep(EVERY_S)
                self._take(time.monotonic(), before)
        finally:
            self.is_felt = False

    def _take(self, now: float, before: float) -> None:
        lag_s = self.lag_s = max(now - before - EVERY_S, 0.0)
        self.beats += 1
        self.recent.append(lag_s)
        # The worst first, behind it the worst of what came later: what a later one exceeds is never asked for.
        while self._worst and self._worst[-1][1] <= lag_s:
            self._worst.pop()
        self._worst.append((now, lag_s))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._worst and now - self._worst[0][0] > WORST_OVER_S:
            self._worst.popleft()
