"""What goes wrong in a history, and how often: drawn from its seed."""

from dataclasses import dataclass
from random import Random


@dataclass(slots=True)
class Faults:
    """How likely it is that something goes wrong, in this history."""

    lost_messages: float = 0.0
    doubled_messages: float = 0.0
    late_messages: float = 0.0
    lost_answers: float = 0.0
    late_pipelines: float = 0.0
    lost_commits: float = 0.0
    slow_viewers: float = 0.0
    slow_steps: float = 0.0
    linger_s: float = 3.0

    @classmethod
    def drawn(cls, random: Random) -> "Faults":
        """Draw some: each history has a few kinds, and has them often."""

        def maybe(most: float) -> float:
            return random.uniform(0, most) if random.random() < 0.4 else 0.0

        return cls(
            maybe(0.6), maybe(0.5), maybe(0.5), maybe(0.4), maybe(0.4), maybe(0.2), maybe(0.5), maybe(0.3),
            random.choice([0.1, 1.0, 30.0]),
        )  # fmt: skip
