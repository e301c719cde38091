"""Virtual time: what happens when, in an order that only the seed decides."""

from collections.abc import Callable
from heapq import heappop, heappush

Step = Callable[[], None]


class Schedule:
    """Steps to come; those of one moment in the order in which they were named."""

    def __init__(self) -> None:
        self.now = 0.0
        self._steps: list[tuple[float, int, Step]] = []
        self._count = 0

    def after(self, delay_s: float, step: Step) -> None:
        """Do something later."""
        self._count += 1
        heappush(self._steps, (self.now + delay_s, self._count, step))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._steps and self._steps[0][0] <= until:
            self.now, _, step = heappop(self._steps)
            step()
        self.now = until
