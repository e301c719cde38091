"""A user's account in one worker's memory: budgets.lua's rules for the time without Redis. Pure: time is handed in."""

from dataclasses import dataclass, field

MINUTE_S, DAY_S = 60, 86_400
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a user may use; None: any amount. Money in micro-dollars, in whole ones: sums never drift."""

    minute_tokens: int | None
    day_tokens: int | None
    minute_micro_usd: int | None
    day_micro_usd: int | None

    def share(self, part: float) -> "Bounds":
        """Return that part of every bound."""
        bounds = (self.minute_tokens, self.day_tokens, self.minute_micro_usd, self.day_micro_usd)
        return Bounds(*(None if bound is None else int(bound * part) for bound in bounds))


@dataclass(frozen=True, slots=True)
class Need:
    """What a call asks for: its prompt, and as many tokens of answer as there may be."""

    prompt_tokens: int
    completion_tokens: int
    least_tokens: int = 1
    """Below this many tokens of answer the call is not worth its prompt."""
    prompt_micro_usd: int = 0
    micro_usd_per_million: int = 0
    """For a million tokens of answer."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a call got: None tokens where there was not enough. What is left after it: None without a bound."""

    completion_tokens: int | None
    tokens_left: int | None
    micro_usd_left: int | None
    more_in_s: float
    is_held: bool = False
    """There were enough, but for what other calls hold: they may give some of it back."""


@dataclass(slots=True)
class Account:
    """What one user has used of a worker's share, and what calls under way may still use."""

    minute: int = 0
    day: int = 0
    minute_used: tuple[int, int] = (0, 0)
    day_used: tuple[int, int] = (0, 0)
    holds: dict[str, tuple[int, int]] = field(default_factory=dict)

    def reserve(self, hold: str, need: Need, bounds: Bounds, now: float) -> Grant:
        """Hold what there is of what is needed, or nothing."""
        self._turn(now)
        held = tuple(map(sum, zip((0, 0), *self.holds.values(), strict=True)))
        left = [
            None if bound is None else max(0, bound - used - held[unit])
            for bound, used, unit in (
                (bounds.minute_tokens, self.minute_used[0], 0),
                (bounds.day_tokens, self.day_used[0], 0),
                (bounds.minute_micro_usd, self.minute_used[1], 1),
                (bounds.day_micro_usd, self.day_used[1], 1),
            )
        ]
        granted, alone, more_at = need.completion_tokens, need.completion_tokens, now
        for index, amount in enumerate(left):
            if amount is None:
                continue
            most = _affordable(need, amount, in_money=index > 1)
            if most < need.completion_tokens:
                more_at = max(more_at, (self.day + 1) * DAY_S if index % 2 else (self.minute + 1) * MINUTE_S)
            granted = min(granted, most)
            alone = min(alone, _affordable(need, amount + held[index // 2], in_money=index > 1))
        tokens_left, micro_usd_left = _smaller(*left[:2]), _smaller(*left[2:])
        if granted < need.least_tokens:
            return Grant(None, tokens_left, micro_usd_left, more_at - now, is_held=alone >= need.least_tokens)
        tokens = need.prompt_tokens + granted
        micro_usd = need.prompt_micro_usd + -(-granted * need.micro_usd_per_million // MILLION)
        before = self.holds.get(hold, (0, 0))
        self.holds[hold] = (before[0] + tokens, before[1] + micro_usd)
        return Grant(
            granted,
            None if tokens_left is None else tokens_left - tokens,
            None if micro_usd_left is None else micro_usd_left - micro_usd,
            more_at - now,
        )

    def settle(self, hold: str, tokens: int, micro_usd: int, now: float) -> None:
        """Book what a call came to, and free what it held."""
        self._turn(now)
        self.holds.pop(hold, None)
        self.minute_used = (self.minute_used[0] + tokens, self.minute_used[1] + micro_usd)
        self.day_used = (self.day_used[0] + tokens, self.day_used[1] + micro_usd)

    def is_idle(self, now: float) -> bool:
        """Whether nothing is lost by forgetting this account."""
        return not self.holds and self.day != int(now // DAY_S)

    def _turn(self, now: float) -> None:
        minute, day = int(now // MINUTE_S), int(now // DAY_S)
        if minute != self.minute:
            self.minute, self.minute_used = minute, (0, 0)
        if day != self.day:
            self.day, self.day_used = day, (0, 0)


def _affordable(need: Need, left: int, *, in_money: bool) -> int:
    """Return how many tokens of answer what is left pays for; negative when not even the prompt."""
    if not in_money:
        return left - need.prompt_tokens
    if left < need.prompt_micro_usd:
        return -1
    if not need.micro_usd_per_million:
        return need.completion_tokens
    return (left - need.prompt_micro_usd) * MILLION // need.micro_usd_per_million


def _smaller(one: int | None, other: int | None) -> int | None:
    known = [amount for amount in (one, other) if amount is not None]
    return min(known) if known else None
