"""Whether this worker takes on something new: it refuses early, so that what runs keeps its pace."""

from parley.chat.errors import Draining, Overloaded
from parley.chat.metrics import ChatMetrics
from parley.chat.settings import ChatSettings
from parley.core.drain import Drain
from parley.core.pulse import RECENT, Pulse


class Admission:
    """The ceilings of a worker."""

    def __init__(self, settings: ChatSettings, drain: Drain, pulse: Pulse, metrics: ChatMetrics) -> None:
        self._most = settings.live_replies
        self._most_lag_s = settings.loop_lag_s
        self._drain = drain
        self._pulse = pulse
        self._refused = metrics.admission_refused

    def check(self, live: int, *, has_backlog: bool = False) -> None:
        """Raise Draining or Overloaded where nothing new can be taken on beside `live` replies."""
        if self._drain.is_draining:
            self._refused.labels("draining").inc()
            raise Draining
        reasons = (("backlog", has_backlog), ("full", live >= self._most), ("loop_lag", self._is_late()))
        reason = next((reason for reason, holds in reasons if holds), None)
        if reason is not None:
            self._refused.labels(reason).inc()
            raise Overloaded

    def room(self, live: int) -> int:
        """Return how many replies more this worker may claim."""
        return 0 if self._drain.is_draining else max(self._most - live, 0)

    def _is_late(self) -> bool:
        recent = self._pulse.recent
        return len(recent) == RECENT and min(recent) > self._most_lag_s
