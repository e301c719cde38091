"""Whether this worker takes on something new: it refuses early, so that what runs keeps its pace."""

import time

from parley.chat.errors import Draining, Overloaded
from parley.chat.settings import ChatSettings
from parley.core.clock import Clock
from parley.core.drain import Drain

PULSE_S = 0.05
IN_A_ROW = 3  # one hiccup, of a start or a neighbour on the machine, is no load


class Admission:
    """The ceilings of a worker."""

    def __init__(self, settings: ChatSettings, drain: Drain, clock: Clock) -> None:
        self._most = settings.live_replies
        self._most_lag_s = settings.loop_lag_s
        self._drain = drain
        self._clock = clock
        self.lag_s = 0.0
        """How late the event loop was at the last pulse."""
        self._late = 0
        self.refused = 0

    def check(self, live: int, *, has_backlog: bool = False) -> None:
        """Raise Draining or Overloaded where nothing new can be taken on beside `live` replies."""
        if self._drain.is_draining:
            raise Draining
        if has_backlog or live >= self._most or self._late >= IN_A_ROW:
            self.refused += 1
            raise Overloaded

    def room(self, live: int) -> int:
        """Return how many replies more this worker may claim."""
        return 0 if self._drain.is_draining else max(self._most - live, 0)

    async def measure(self) -> None:
        """Feel the loop's pulse, for ever."""
        while True:
            before = time.monotonic()
            await self._clock.sleep(PULSE_S)
            self.lag_s = time.monotonic() - before - PULSE_S
            self._late = self._late + 1 if self.lag_s > self._most_lag_s else 0
