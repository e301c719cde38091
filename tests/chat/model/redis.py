"""The tape plane: Redis as the workers see it. It carries and repeats, and may lose anything at any moment."""

from collections.abc import Callable, Sequence
from random import Random

from tests.chat.model.rules import Rules
from tests.chat.model.schedule import Schedule

from parley.core.fanout.log import End, Entry, Write

Sink = Callable[[bytes], None]


class Channel:
    """What becomes of a published message on its way."""

    def __init__(self, schedule: Schedule, random: Random, *, loses: float, doubles: float, delays: float) -> None:
        self._schedule = schedule
        self._random = random
        self._loses, self._doubles, self._delays = loses, doubles, delays
        self.sinks: dict[object, Sink] = {}

    def calm(self) -> None:
        """Lose nothing more."""
        self._loses = self._doubles = self._delays = 0.0

    def publish(self, data: bytes) -> None:
        """Carry it to everybody who listens, or not."""
        for who in tuple(self.sinks):
            copies = 1 - (self._random.random() < self._loses) + (self._random.random() < self._doubles)
            for _ in range(copies):
                is_late = self._random.random() < self._delays
                delay_s = self._random.uniform(0.01, 2.0) if is_late else 0.001
                self._schedule.after(delay_s, lambda who=who, sink=self.sinks[who]: self._arrive(who, sink, data))  # type: ignore[misc]

    def _arrive(self, who: object, sink: Sink, data: bytes) -> None:
        if self.sinks.get(who) is sink:
            sink(data)


class Redis:
    """Logs by key, and one channel."""

    def __init__(self, channel: Channel, rules: Rules) -> None:
        self.is_up = True
        self.channel = channel
        self.logs: dict[str, list[Entry]] = {}
        self._rules = rules

    def append(self, writes: Sequence[Write]) -> list[End]:
        """Run a pipeline of appends."""
        return [self._append(write) for write in writes]

    def read(self, key: str, attempt: int, n: int, most: int) -> list[Entry]:
        """Return the first entries behind a position."""
        return [entry for entry in self.logs.get(key, ()) if (entry.attempt, entry.end) > (attempt, n)][:most]

    def lose_tails(self, entries: int) -> None:
        """Forget the newest entries of every log, as a failover does."""
        for key, log in list(self.logs.items()):
            del log[-entries:]
            if not log:
                del self.logs[key]

    def _append(self, write: Write) -> End:
        # append.lua, word for word.
        log = self.logs.get(write.key)
        at, n = (log[-1].attempt, log[-1].end) if log else (-1, 0)
        follows = at == write.attempt and (n == write.start or not self._rules.append_asks_where_the_log_ends)
        begins = write.start == 0 and at < write.attempt
        if write.end > write.start and (follows or begins):
            kept = [] if log is None or at != write.attempt else log
            self.logs[write.key] = [*kept, Entry(write.attempt, write.end, write.entry)]
            self.channel.publish(write.entry)
            return End(write.attempt, write.end)
        return End(at, n) if log else End(0, 0)
