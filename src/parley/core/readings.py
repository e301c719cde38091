"""What is read once a second rather than told when it happens: states, and what parts count in plain numbers."""

from collections.abc import Callable

from prometheus_client import Counter, Gauge

from parley.core.clock import Clock

EVERY_S = 1.0


class Readings:
    """What to read and where it goes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps: list[Callable[[], None]] = []

    def state(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Show a state as it is."""
        self._steps.append(lambda: gauge.set(read()))

    def count(self, counter: Counter, read: Callable[[], float]) -> None:
        """Show a number that some part counts up."""
        told = 0.0

        def step() -> None:
            nonlocal told
            now = read()
            counter.inc(max(now - told, 0.0))
            told = now

        self._steps.append(step)

    def step(self, take: Callable[[], None]) -> None:
        """Do this as often."""
        self._steps.append(take)

    def take(self) -> None:
        """Read everything now."""
        for step in self._steps:
            step()

    async def run(self) -> None:
        """Read, for ever."""
        try:
            while True:
                self.take()
                await self._clock.sleep(EVERY_S)
        finally:
            self.take()  # what the last moment has counted
