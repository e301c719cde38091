"""Which models are left alone because they fail: one circuit for each provider and model, shared by all workers.

Redis holds the circuits; a worker asks it at most every half second for each, so a call costs no round trip of its
own. While Redis is away each worker goes by what it sees itself. Calls nothing.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from parley.agents.clients.circuit import Circuit, CircuitRules, Standing, State, Verdict
from parley.agents.scripts import Scripts, SharedAway, tagged
from parley.agents.settings import AgentsSettings
from parley.core.clock import Clock
from parley.core.ids import new_id

log = structlog.get_logger(__name__)

# All workers know within a second: this, and the deadline of the step that asks.
FRESH_S = 0.5
# A provider may ask to be left alone for an hour; it is tried again after five minutes.
REST_MAX_S = 300.0
FORGOTTEN_S = 60.0  # what nobody has asked for so long after its pause says nothing about now


@dataclass(frozen=True, slots=True)
class Permit:
    """A call that may begin. To be handed back with its verdict."""

    provider: str
    model: str
    probe: str = ""
    """Not empty for the one call that tries a model after a pause."""


@dataclass(slots=True)
class _Known:
    """What this worker holds of a circuit: Redis' answer, until when it is fresh, and its own circuit."""

    own: Circuit
    standing: Standing
    told_at: float = 0.0
    fresh_until: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Breaker:
    """The circuits as this worker knows them."""

    def __init__(
        self, scripts: Scripts, settings: AgentsSettings, clock: Clock, new_probe: Callable[[], str] | None = None
    ) -> None:
        self._step = scripts.load(__package__, "breaker")
        self._clock = clock
        self._new_probe = new_probe or (lambda: new_id().hex)
        # A probe is decided by its first token; one whose worker died is given up soon after that was due.
        self._rules = CircuitRules(
            settings.breaker_window_s,
            settings.breaker_min_calls,
            settings.breaker_failure_rate,
            settings.breaker_open_s,
            settings.first_token_s + settings.breaker_open_s,
        )
        self._known: dict[tuple[str, str], _Known] = {}

    async def ask(self, provider: str, model: str) -> Permit | None:
        """Return a permit, or None while the model is left alone."""
        known = self._find(provider, model)
        if self._clock.monotonic() >= known.fresh_until:
            async with known.asking:  # many calls, one question: the others find it answered
                if self._clock.monotonic() >= known.fresh_until and (
                    probe := await self._renew(known, provider, model)
                ):
                    return Permit(provider, model, probe)
        return Permit(provider, model) if known.standing.state == "closed" else None

    async def report(self, permit: Permit, verdict: Verdict, rest_s: float = 0.0) -> None:
        """Say how a call ended: `dropped` says nothing about the model. `rest_s`: it asked to be left alone."""
        known, rest_s = self._find(permit.provider, permit.model), min(rest_s, REST_MAX_S)
        own = known.own.report(verdict, permit.probe, self._clock.monotonic(), rest_s)
        if verdict == "dropped" and not permit.probe:
            return
        try:
            standing = await self._run(permit.provider, permit.model, verdict, permit.probe, rest_s)
        except SharedAway:
            standing = own
        else:
            known.fresh_until = self._clock.monotonic() + FRESH_S
        self._take(known, permit.provider, permit.model, standing)

    def wait_s(self, provider: str, model: str) -> float:
        """Return in how many seconds a model that is left alone may be tried again, as far as is known."""
        known = self._find(provider, model)
        return max(0.0, known.told_at + known.standing.wait_s - self._clock.monotonic())

    def states(self) -> dict[tuple[str, str], State]:
        """Return the state of every circuit this worker has used, as far as it still knows, for metrics and health."""
        return {name: self._state(known) for name, known in self._known.items()}

    def _state(self, known: _Known) -> State:
        standing, told_s = known.standing, self._clock.monotonic() - known.told_at
        if standing.state == "closed" or told_s > standing.wait_s + FORGOTTEN_S:
            return "closed"
        return standing.state if told_s <= standing.wait_s else "half_open"

    async def _renew(self, known: _Known, provider: str, model: str) -> str:
        """Learn where the circuit stands; return the probe's id if the caller is to be the probe, else nothing."""
        probe = self._new_probe()
        try:
            standing = await self._run(provider, model, "ask", probe)
            known.fresh_until = self._clock.monotonic() + FRESH_S
        except SharedAway:
            standing = known.own.ask(probe, self._clock.monotonic())
            known.fresh_until = 0.0  # its own memory costs nothing to ask
        self._take(known, provider, model, standing)
        return probe if standing.is_probe else ""

    def _find(self, provider: str, model: str) -> _Known:
        name = (provider, model)
        if name not in self._known:
            self._known[name] = _Known(Circuit(self._rules), Standing("closed"))
        return self._known[name]

    def _take(self, known: _Known, provider: str, model: str, standing: Standing) -> None:
        known.standing, known.told_at = standing, self._clock.monotonic()
        if standing.state != "closed" and not standing.is_probe and standing.wait_s < FRESH_S:
            known.fresh_until = min(known.fresh_until, known.told_at + standing.wait_s)
        if standing.is_change:
            log.warning(
                "breaker_changed",
                provider=provider,
                model=model,
                state=standing.state,
                wait_s=round(standing.wait_s, 3),
            )

    async def _run(self, provider: str, model: str, operation: str, probe: str, rest_s: float = 0.0) -> Standing:
        rules = self._rules
        answer: list[Any] = await self._step(
            [f"{tagged('breaker', provider, model)}:circuit"],
            operation,
            math.ceil(rules.window_s * 1000),
            rules.min_calls,
            rules.failure_rate * 100,
            math.ceil(rules.open_s * 1000),
            math.ceil(rules.probe_s * 1000),
            probe,
            math.ceil(rest_s * 1000),
        )
        state, wait_ms, is_probe, is_change = answer
        return replace(
            Standing(state.decode()), wait_s=wait_ms / 1000, is_probe=bool(is_probe), is_change=bool(is_change)
        )
