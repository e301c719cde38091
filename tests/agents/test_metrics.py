"""What the agents count: calls by outcome, tokens and money, and where the breakers stand."""

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.agents.model_double import ModelDouble
from tests.agents.shared_state import open_worker
from tests.agents.test_fallback import ANSWER, BROKEN_NOW, Asked, failing
from tests.fixtures.guards import LoopGuard
from tests.fixtures.metrics import agent_metrics, counted

from parley.agents.clients import breaker as module
from parley.agents.clients.attempts import AttemptReport
from parley.agents.clients.port import BROKEN, REFUSED, Usage
from parley.agents.interface import Attempt

OK = AttemptReport("main", "configured", "ok", 0.2, 1.5, Usage(10, 5, 4), 20)
BOOKED = Attempt("configured", "ok", 10, 5, is_estimated=False, first_token_s=0.2, total_s=1.5, cost_usd=0.002)


def test_a_call_is_counted_once_for_each_who_asks() -> None:
    registry = CollectorRegistry()
    metrics = agent_metrics(registry)
    metrics.called(OK, BOOKED)
    metrics.called(replace(OK, outcome=BROKEN, first_token_s=None, usage=None), replace(BOOKED, cost_usd=None))
    metrics.called(replace(OK, outcome="cancelled"), BOOKED)

    def told(name: str, **labels: str) -> float:
        return counted(registry, name, model="configured", **labels)

    outcomes = [told("llm_requests_total", outcome=outcome) for outcome in ("ok", BROKEN, "cancelled")]
    assert outcomes == [1, 1, 1]
    assert [told("llm_errors_total", error=error) for error in (BROKEN, "cancelled")] == [1, 0]
    assert [told("llm_tokens_total", kind=kind) for kind in ("input", "output", "cached")] == [30, 15, 8]
    assert told("llm_cost_usd_total") == pytest.approx(0.004)
    assert told("llm_request_duration_seconds_count") == 3
    assert told("llm_time_to_first_token_seconds_count") == 2


def test_names_that_nobody_set_up_share_a_few_series() -> None:
    registry = CollectorRegistry()
    metrics = agent_metrics(registry)
    for number in range(500):
        metrics.called(replace(OK, model=f"model-{number}", outcome=f"outcome-{number}"), BOOKED)
        metrics.ran(f"tool-{number}", "failed", 0.1)
        metrics.told("repeated", f"model-{number}")
        metrics.stands([(f"model-{number}", "open")])
    metrics.ran("known", "ok", 0.1)

    values: dict[str, set[str]] = {}
    for family in registry.collect():
        for sample in family.samples:
            for label in ("model", "tool", "outcome", "error"):
                if label in sample.labels:
                    values.setdefault(label, set()).add(sample.labels[label])
    assert values["tool"] == {"known", "other"}
    assert all(len(found) <= 40 and "other" in found for label, found in values.items() if label != "tool")


async def test_repeats_and_fallbacks_are_told(redis_url: str, loop_guard: LoopGuard) -> None:
    told: list[Any] = []
    async with open_worker(redis_url, loop_guard) as worker:
        worker.fallback._told = lambda *what: told.append(what)
        await Asked(ModelDouble(ANSWER)).ask(worker)
        assert not told
        await Asked(ModelDouble(BROKEN_NOW, ANSWER)).ask(worker)
        assert told == [("repeated", "m0")]
        await Asked(ModelDouble(failing(REFUSED, is_retryable=False)), ModelDouble(ANSWER)).ask(worker)
        assert told == [("repeated", "m0"), ("fell_back", "m1")]


async def test_a_breaker_is_open_half_open_and_forgotten(
    redis_url: str, loop_guard: LoopGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that nobody asks any more does not say for ever that a model was failing."""
    async with open_worker(redis_url, loop_guard, breaker_min_calls=2, breaker_open_s=30.0) as worker:
        for _ in range(2):
            permit = await worker.breaker.ask("p", "m")
            assert permit is not None
            await worker.breaker.report(permit, "failed")
        [known] = worker.breaker._known.values()
        seen = []
        for ago_s in (0.0, 31.0, 31.0 + module.FORGOTTEN_S):
            known.told_at = worker.breaker._clock.monotonic() - ago_s
            seen.append(worker.breaker.states()["p", "m"])
        registry = CollectorRegistry()
        metrics = agent_metrics(registry)
        shown = []
        for states in ([("configured", "open"), ("configured", "closed")], [("configured", "half_open")]):
            metrics.stands(states)  # type: ignore[arg-type]  # they are
            shown.append(counted(registry, "llm_circuit_state", model="configured"))

    assert seen == ["open", "half_open", "closed"]
    assert shown == [2, 1]
