"""Health: details for those who run the service, a bare status for others, and no wait for what hangs."""

import asyncio

import pytest
from tests.conftest import Start
from tests.fixtures.service import from_address

from parley.core.clock import SystemClock
from parley.core.health import Finding, Health, Readiness


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


async def test_a_check_that_hangs_is_asked_once_by_many_and_not_waited_for() -> None:
    health, asked = Health(SystemClock()), 0

    async def hang() -> Finding:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        return Finding("ok")

    health.register("store", hang, is_required=False, deadline_s=0.1, keep_s=60)
    reports = await asyncio.wait_for(asyncio.gather(*(health.report() for _ in range(20))), 2)

    assert asked == 1
    assert {status for status, _ in reports} == {"degraded"}


@pytest.mark.parametrize("reasons", [[], ["starting"], ["draining", "starting"]])
def test_readiness_names_what_is_in_the_way(reasons: list[str]) -> None:
    readiness = Readiness()
    for reason in reasons:
        readiness.block(reason)

    assert list(readiness.reasons) == reasons
