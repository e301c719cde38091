"""Health: details for those who run the service, a bare status for others, and no wait for what hangs."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.conftest import Start
from tests.fixtures.service import Service, from_address

from parley.core.clock import Clock, SystemClock
from parley.core.health import SILENT_S, Finding, Health, Readiness
from parley.core.tasks import Tasks


async def test_everything_is_fine(start: Start) -> None:
    async with start() as service:
        await asyncio.wait_for(service.parts["readiness"].wait(), 5)
        health = (await service.http.get("/health")).json()

        assert (await service.http.get("/health/live")).json() == {"status": "alive"}
        assert (await service.http.get("/health/ready")).json() == {"status": "ready", "reasons": []}

    assert health["status"] == "ok"
    assert {name: part["status"] for name, part in health["components"].items()} == {
        "database": "ok",
        "redis": "ok",
        "queue": "ok",
    }


async def test_a_stranger_sees_the_bare_status(start: Start) -> None:
    async with start(PARLEY_OPS_TOKEN="letmelook", PARLEY_OPS_ALLOW="198.51.100.0/24") as service:
        async with from_address(service.app, "203.0.113.5") as stranger:
            assert (await stranger.get("/health")).json() == {"status": "ok", "components": None}
            told = await stranger.get("/health", headers={"Authorization": "Bearer letmelook"})
            guessed = await stranger.get("/health", headers={"Authorization": "Bearer letmelock"})
        async with from_address(service.app, "198.51.100.7") as colleague:
            allowed = await colleague.get("/health")
        proxied = await service.http.get("/health", headers={"X-Forwarded-For": "127.0.0.1"})

    assert told.json()["components"] is not None
    assert guessed.json()["components"] is None
    assert allowed.json()["components"] is not None
    assert proxied.json()["components"] is None


async def test_without_a_database_the_service_is_down_but_ready_and_alive(start: Start) -> None:
    async with start(PARLEY_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none") as service:
        await asyncio.wait_for(service.parts["readiness"].wait(), 5)
        health = await service.http.get("/health")
        ready = await service.http.get("/health/ready")
        answer = await service.log_in("ada@shop.example")

    assert (health.status_code, health.json()["status"]) == (503, "down")
    assert ready.status_code == 200
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


async def test_without_redis_the_service_is_degraded(start: Start) -> None:
    async with start(PARLEY_REDIS_URL="redis://127.0.0.1:1") as service:
        health = await service.http.get("/health")

    assert (health.status_code, health.json()["status"]) == (200, "degraded")


@pytest_asyncio.fixture
async def tasks() -> AsyncIterator[Tasks]:
    """What runs beside the test."""
    tasks = Tasks()
    yield tasks
    await tasks.close(1.0)


class Store:
    """A component that answers, hangs or fails as it is told to."""

    def __init__(self, tasks: Tasks, clock: Clock, *, is_required: bool = True, keep_s: float = 60.0) -> None:
        self.health = Health(clock, tasks)
        self.asked = 0
        self.hangs = False
        self.stuck: asyncio.Event | None = None
        self.health.register("store", self._check, is_required=is_required, deadline_s=0.1, keep_s=keep_s)

    async def _check(self) -> Finding:
        self.asked += 1
        if self.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                if self.stuck is not None:
                    await self.stuck.wait()
        return Finding("ok")


class MovedClock(SystemClock):
    """The machine's clock, some way ahead."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


async def test_a_check_that_hangs_is_asked_once_by_many_and_not_waited_for(tasks: Tasks) -> None:
    store = Store(tasks, SystemClock(), is_required=False)
    store.hangs = True

    reports = await asyncio.wait_for(asyncio.gather(*(store.health.report() for _ in range(200))), 2)

    assert store.asked == 1
    assert {status for status, _ in reports} == {"degraded"}
    assert {finding.detail for _, found in reports for finding in found.values()} == {"no answer within 0.1 s"}


async def test_whoever_leaves_takes_no_check_along(tasks: Tasks) -> None:
    """A prober that hangs up early would otherwise make each of the others begin anew."""
    store = Store(tasks, SystemClock())
    store.hangs = True
    first = asyncio.create_task(store.health.report())
    others = [asyncio.create_task(store.health.report()) for _ in range(5)]
    await asyncio.sleep(0.01)
    first.cancel()

    await asyncio.wait_for(asyncio.gather(first, *others, return_exceptions=True), 5)

    assert store.asked == 1


async def test_a_check_that_cannot_even_be_cancelled_is_left_to_itself(tasks: Tasks) -> None:
    store = Store(tasks, SystemClock(), keep_s=0)
    store.hangs, store.stuck = True, asyncio.Event()

    for _ in range(3):
        status, _ = await asyncio.wait_for(store.health.report(), 5)
        assert status == "degraded"

    assert store.asked == 1
    store.stuck.set()


async def test_what_is_slow_is_degraded_and_what_stays_silent_is_down(tasks: Tasks) -> None:
    clock = MovedClock()
    store = Store(tasks, clock, keep_s=2.0)
    assert (await store.health.report())[0] == "ok"

    store.hangs, clock.ahead_s = True, 3.0
    assert (await store.health.report())[0] == "degraded"
    clock.ahead_s = 3.0 + SILENT_S
    assert (await store.health.report())[0] == "down"
    store.hangs, clock.ahead_s = False, 6.0 + SILENT_S
    assert (await store.health.report())[0] == "ok"
    store.hangs, clock.ahead_s = True, 3600.0
    assert (await store.health.report())[0] == "degraded", "a store that has just answered is slow"


async def test_probes_are_never_kept_and_never_hurried(service: Service) -> None:
    await asyncio.wait_for(service.parts["readiness"].wait(), 5)
    for path in ("/health", "/health/live", "/health/ready"):
        answer = await service.http.get(path)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
        assert "RateLimit-Limit" not in answer.headers


@pytest.mark.parametrize("reasons", [[], ["starting"], ["draining", "starting"]])
def test_readiness_names_what_is_in_the_way(reasons: list[str]) -> None:
    readiness = Readiness()
    for reason in reasons:
        readiness.block(reason)

    assert list(readiness.reasons) == reasons
