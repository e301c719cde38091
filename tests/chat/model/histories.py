"""Runs histories, and makes one that fails as short as it can be before it is shown."""

from collections.abc import Iterable
from dataclasses import dataclass
from unittest.mock import patch

from tests.chat.model.rules import Rules, Violation
from tests.chat.model.world import World

from parley.chat import hub, owners

LINES = 60


@dataclass(frozen=True, slots=True)
class Failure:
    """A history in which a promise was broken."""

    seed: int
    steps: int
    sentence: str
    trace: str

    def __str__(self) -> str:
        return f"seed {self.seed}, the first {self.steps} steps: {self.sentence}\n{self.trace}"


def run(seed: int, rules: Rules, *, steps: int | None = None, traces: bool = False) -> tuple[World, str]:
    """Run one history; return it, and the sentence of what it broke."""
    world = World(seed, rules, steps=steps, traces=traces)
    with (
        patch.object(hub, "RING", world.ring),
        patch.object(hub, "OLD_TAPES", world.old_tapes),
        patch.object(owners, "MOST_TAKEOVERS", world.most_takeovers),
    ):
        try:
            world.run()
        except Violation as violation:
            return world, str(violation)
    return world, ""


def first_failure(seeds: Iterable[int], rules: Rules) -> Failure | None:
    """Return the first history that breaks a promise, cut down to the fewest steps that still do."""
    for seed in seeds:
        world, sentence = run(seed, rules)
        if sentence:
            return _shortened(seed, rules, world.planned)
    return None


def _shortened(seed: int, rules: Rules, planned: int) -> Failure:
    for steps in range(planned + 1):
        world, sentence = run(seed, rules, steps=steps, traces=True)
        if sentence:
            return Failure(seed, steps, sentence, "\n".join((world.trace or [])[-LINES:]))
    return Failure(seed, planned, "only without a trace", "")
