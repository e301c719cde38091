"""A drain: begins once, tells everybody, and gives each the same time."""

import asyncio
import time
from typing import Any

from tests.conftest import Start

from parley.core.drain import Drain
from parley.core.health import Readiness


def new_drain() -> tuple[Drain, Readiness]:
    readiness = Readiness()
    return Drain(readiness), readiness


async def test_it_begins_once_and_tells_each_at_once() -> None:
    drain, readiness = new_drain()
    told: list[str] = []
    drain.on_begin(lambda: told.append("first"))
    drain.on_begin(lambda: told.append("second"))
    waiting = asyncio.create_task(drain.wait())
    await asyncio.sleep(0)
    assert (drain.is_draining, readiness.reasons, told) == (False, (), [])
    drain.begin()
    drain.begin()
    assert (drain.is_draining, readiness.reasons, told) == (True, ("draining",), ["first", "second"])
    await asyncio.wait_for(waiting, 1)


async def test_whoever_comes_late_is_told_at_once() -> None:
    drain, _ = new_drain()
    drain.begin()
    told: list[str] = []
    drain.on_begin(lambda: told.append("late"))
    assert told == ["late"]


async def test_one_that_fails_keeps_nobody_from_hearing(logs: list[dict[str, Any]]) -> None:
    drain, _ = new_drain()
    told: list[str] = []

    def fail() -> None:
        raise ValueError("on purpose")

    drain.on_begin(fail)
    drain.on_begin(lambda: told.append("second"))
    drain.begin()
    assert told == ["second"]
    assert any(event["event"] == "drain_callback_failed" and "fail" in event["callback"] for event in logs)


async def test_without_anything_to_finish_it_is_complete_at_once() -> None:
    drain, _ = new_drain()
    began = time.monotonic()
    await drain.complete(30)
    assert time.monotonic() - began < 1


async def test_all_finish_side_by_side_within_the_same_time(logs: list[dict[str, Any]]) -> None:
    drain, _ = new_drain()
    done: list[str] = []

    async def quick() -> None:
        await asyncio.sleep(0.05)
        done.append("quick")

    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            done.append("slow was cancelled")

    async def fail() -> None:
        raise ValueError("on purpose")

    for work in (slow, fail, quick):
        drain.finish(work)
    began = time.monotonic()
    await drain.complete(0.3)
    assert 0.25 < time.monotonic() - began < 2
    assert done == ["quick", "slow was cancelled"]
    events = [event["event"] for event in logs]
    assert events.count("drain_cut_short") == 1
    assert events.count("drain_work_failed") == 1


async def test_a_draining_worker_is_alive_and_not_ready(start: Start) -> None:
    async with start() as service:
        await asyncio.wait_for(service.parts["readiness"].wait(), 5)
        service.parts["drain"].begin()
        assert (await service.http.get("/health/live")).status_code == 200
        ready = await service.http.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json() == {"status": "not_ready", "reasons": ["draining"]}
