"""The breaker: opens for failing models, tells all workers, lets one call try, and works without Redis."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.agents.shared_state import NOWHERE, Worker, open_worker
from tests.fixtures.guards import LoopGuard
from tests.fixtures.own_redis import OwnRedis, own_redis

from parley.agents.clients.breaker import Breaker
from parley.core.line import Line

__all__ = ["own_redis"]
QUICK = {"breaker_min_calls": 4, "breaker_open_s": 0.3, "breaker_window_s": 5.0}


async def call(breaker: Breaker, verdict: Any, times: int = 1, rest_s: float = 0.0) -> None:
    for _ in range(times):
        permit = await breaker.ask("shop", "m1")
        assert permit
        await breaker.report(permit, verdict, rest_s)


async def is_closed(worker: Worker) -> bool:
    return await worker.breaker.ask("shop", "m1") is not None


@pytest.fixture(params=["with redis", "without redis"])
def where(request: pytest.FixtureRequest, redis_url: str) -> str:
    return redis_url if request.param == "with redis" else NOWHERE


async def test_it_opens_at_the_failure_rate_and_not_before(where: str, loop_guard: LoopGuard) -> None:
    async with open_worker(where, loop_guard, **QUICK) as worker:
        await call(worker.breaker, "ok", 4)
        await call(worker.breaker, "failed", 3)
        assert await is_closed(worker)
        await call(worker.breaker, "failed")
        assert not await is_closed(worker)
        assert 0 < worker.breaker.wait_s("shop", "m1") <= 0.3


async def test_a_few_failures_of_few_calls_open_nothing(where: str, loop_guard: LoopGuard) -> None:
    async with open_worker(where, loop_guard, **QUICK) as worker:
        await call(worker.breaker, "failed", 3)
        assert await is_closed(worker)


async def test_other_models_of_the_provider_stay_closed(where: str, loop_guard: LoopGuard) -> None:
    async with open_worker(where, loop_guard, **QUICK) as worker:
        await call(worker.breaker, "failed", 4)
        assert await worker.breaker.ask("shop", "m2") is not None


async def test_after_the_pause_one_probe_goes_and_closes_it(where: str, loop_guard: LoopGuard) -> None:
    async with open_worker(where, loop_guard, **QUICK) as worker:
        await call(worker.breaker, "failed", 4)
        await asyncio.sleep(0.35)

        permits = [permit for _ in range(5) if (permit := await worker.breaker.ask("shop", "m1"))]
        assert len(permits) == 1
        assert permits[0].probe
        await worker.breaker.report(permits[0], "ok")
        await call(worker.breaker, "failed", 3)  # old failures are forgotten
        assert await is_closed(worker)


async def test_a_failed_probe_opens_it_again_and_a_dropped_one_lets_the_next_try(
    where: str, loop_guard: LoopGuard
) -> None:
    async with open_worker(where, loop_guard, **QUICK) as worker:
        await call(worker.breaker, "failed", 4)
        await asyncio.sleep(0.35)
        await call(worker.breaker, "failed")
        assert not await is_closed(worker)
        await asyncio.sleep(0.35)
        await call(worker.breaker, "dropped")
        permit = await worker.breaker.ask("shop", "m1")
        assert permit
        assert permit.probe


async def test_a_provider_that_asks_for_rest_gets_it_at_once(where: str, loop_guard: LoopGuard) -> None:
    async with open_worker(where, loop_guard, **QUICK) as worker:
        await call(worker.breaker, "failed", rest_s=3600)
        assert not await is_closed(worker)
        assert 299 < worker.breaker.wait_s("shop", "m1") <= 300


async def test_all_workers_know_within_a_second(redis_url: str, loop_guard: LoopGuard) -> None:
    async with AsyncExitStack() as stack:
        rules = {**QUICK, "breaker_open_s": 5.0}
        one, two, three = [
            await stack.enter_async_context(open_worker(redis_url, loop_guard, **rules)) for _ in range(3)
        ]
        for worker in (one, two, three):
            assert await is_closed(worker)
        await call(one.breaker, "failed", 4)
        opened = time.monotonic()
        knows: dict[int, float] = {}
        while len(knows) < 2 and time.monotonic() - opened < 2:
            for number, worker in enumerate((two, three)):
                if number not in knows and not await is_closed(worker):
                    knows[number] = time.monotonic() - opened
            await asyncio.sleep(0.01)
        print("others knew after", [f"{after * 1000:.0f} ms" for after in knows.values()])
        assert len(knows) == 2
        assert max(knows.values()) < 1.0


async def test_one_probe_over_all_workers(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_worker(redis_url, loop_guard, **QUICK) as one, open_worker(redis_url, loop_guard, **QUICK) as two:
        await call(one.breaker, "failed", 4)
        await asyncio.sleep(0.35)
        asked = await asyncio.gather(*(worker.breaker.ask("shop", "m1") for worker in (one, two) * 20))
        assert len([permit for permit in asked if permit]) == 1


async def test_asking_costs_no_round_trip_while_the_answer_is_fresh(
    redis_url: str, loop_guard: LoopGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    ask = Line.ask

    async def counted(line: Line, command: bytes, *, within_s: float) -> Any:
        nonlocal asked
        asked += 1
        return await ask(line, command, within_s=within_s)

    monkeypatch.setattr(Line, "ask", counted)
    async with open_worker(redis_url, loop_guard) as worker:
        for _ in range(1000):
            await worker.breaker.ask("shop", "m1")
        assert 1 <= asked <= 2


async def test_only_changes_are_logged(redis_url: str, loop_guard: LoopGuard, logs: list[dict[str, Any]]) -> None:
    async with open_worker(redis_url, loop_guard, **QUICK) as worker:
        await call(worker.breaker, "failed", 4)
        for _ in range(10):
            await worker.breaker.ask("shop", "m1")
        await asyncio.sleep(0.35)
        await call(worker.breaker, "ok")
    states = [event["state"] for event in logs if event["event"] == "breaker_changed"]
    assert states == ["open", "half_open", "closed"]


async def test_a_hung_redis_costs_one_deadline_and_then_nothing(own_redis: OwnRedis, loop_guard: LoopGuard) -> None:
    async with open_worker(own_redis.url, loop_guard, shared_deadline_s=0.05) as worker:
        await worker.breaker.ask("shop", "m1")
        own_redis.pause()
        worker.breaker._known[("shop", "m1")].fresh_until = 0.0
        started = time.monotonic()
        assert await is_closed(worker)
        assert time.monotonic() - started < 0.8
        started = time.monotonic()
        for _ in range(100):
            assert await is_closed(worker)
        assert time.monotonic() - started < 0.8
        own_redis.go_on()
