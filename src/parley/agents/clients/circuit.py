"""One circuit in one worker's memory: breaker.lua's rules for the time without Redis. Pure: the time is handed in."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half_open"]
Verdict = Literal["ok", "failed", "dropped"]
MOST_CALLS = 1000  # remembered; a rate over more of them is the same rate


@dataclass(frozen=True, slots=True)
class CircuitRules:
    """When a circuit opens and for how long."""

    window_s: float
    min_calls: int
    failure_rate: float
    open_s: float
    probe_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a circuit stands after a step."""

    state: State
    wait_s: float = 0.0
    is_probe: bool = False
    is_change: bool = False


class Circuit:
    """Closed, open, or half-open with one probe under way."""

    def __init__(self, rules: CircuitRules) -> None:
        self._rules = rules
        self._state: State = "closed"
        self._until = 0.0
        self._probe = ""
        self._calls: deque[tuple[float, bool]] = deque(maxlen=MOST_CALLS)

    def ask(self, probe: str, now: float) -> Standing:
        """Say whether a call may begin; the first one after an open time is the probe."""
        if self._state == "closed":
            return Standing("closed")
        if self._until > now:
            return Standing(self._state, self._until - now)
        entered = self._enter("half_open", now, self._rules.probe_s, probe)
        return Standing(entered.state, entered.wait_s, is_probe=True, is_change=entered.is_change)

    def report(self, verdict: Verdict, probe: str, now: float, rest_s: float = 0.0) -> Standing:
        """Take in how a call ended; `rest_s` is how long the provider itself wants to be left alone."""
        open_s = max(self._rules.open_s, rest_s)
        if probe:
            if self._state != "half_open" or self._probe != probe:
                return self._standing(now)
            if verdict == "ok":
                return self._enter("closed", now)
            return self._enter("open", now, open_s if verdict == "failed" else 0.0)
        if self._state != "closed" or verdict == "dropped":
            return self._standing(now)
        self._calls.append((now, verdict == "ok"))
        if verdict == "failed" and (rest_s > 0 or self._is_failing(now)):
            return self._enter("open", now, open_s)
        return self._standing(now)

    def _is_failing(self, now: float) -> bool:
        recent = [is_ok for at, is_ok in self._calls if at > now - self._rules.window_s]
        return len(recent) >= self._rules.min_calls and recent.count(False) >= self._rules.failure_rate * len(recent)

    def _enter(self, state: State, now: float, wait_s: float = 0.0, probe: str = "") -> Standing:
        is_change = state != self._state
        self._state, self._until, self._probe = state, now + wait_s, probe
        self._calls.clear()
        return Standing(state, wait_s, is_change=is_change)

    def _standing(self, now: float) -> Standing:
        return Standing(self._state, max(0.0, self._until - now))
