"""Leases: never more calls than the provider takes, in order of arrival, and nothing a dead worker held stays held."""

import asyncio
import time
from typing import Any

import pytest
from tests.agents.shared_state import NOWHERE, open_worker
from tests.fixtures.guards import LoopGuard

from parley.agents.clients.leases import QueueFull
from parley.agents.clients.port import BUSY


class Busy:
    """Counts who is inside."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.order: list[int] = []

    async def work(self, worker: Any, number: int, seconds: float = 0.01, limit: int | None = None) -> None:
        async with worker.leases.hold("shop", limit=limit):
            self.now += 1
            self.most = max(self.most, self.now)
            self.order.append(number)
            await asyncio.sleep(seconds)
            self.now -= 1


async def test_all_workers_together_keep_to_the_limit(redis_url: str, loop_guard: LoopGuard) -> None:
    busy, few = Busy(), {"concurrency": 5}
    async with open_worker(redis_url, loop_guard, **few) as one, open_worker(redis_url, loop_guard, **few) as two:
        await asyncio.gather(*(busy.work(worker, n) for n in range(30) for worker in (one, two)))
        assert busy.most == 5
        assert len(busy.order) == 60
        assert one.leases.waiting("shop") == one.leases.held("shop") == 0


async def test_a_worker_serves_in_order_of_arrival(redis_url: str, loop_guard: LoopGuard) -> None:
    busy = Busy()
    async with open_worker(redis_url, loop_guard, concurrency=1) as worker:
        await asyncio.gather(*(busy.work(worker, n, 0.002) for n in range(30)))
    assert busy.order == list(range(30))


async def test_a_full_queue_refuses_at_once(redis_url: str, loop_guard: LoopGuard) -> None:
    busy = Busy()
    async with open_worker(redis_url, loop_guard, concurrency=1, queue_size=2) as worker:
        runs = [asyncio.create_task(busy.work(worker, n, 0.1)) for n in range(3)]
        await asyncio.sleep(0.05)
        started = time.monotonic()
        waiting = asyncio.create_task(busy.work(worker, 3))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull) as refused:
            await busy.work(worker, 4)
        assert time.monotonic() - started < 0.8
        assert (refused.value.code, refused.value.detail) == (BUSY, "queue_full")
        await asyncio.gather(*runs, waiting, return_exceptions=True)


async def test_who_waits_too_long_is_told(redis_url: str, loop_guard: LoopGuard) -> None:
    busy = Busy()
    async with open_worker(redis_url, loop_guard, concurrency=1, queue_s=0.1) as worker:
        first = asyncio.create_task(busy.work(worker, 1, 0.4))
        await asyncio.sleep(0.02)
        started = time.monotonic()
        with pytest.raises(QueueFull, match=BUSY) as refused:
            await busy.work(worker, 2)
        assert 0.08 < time.monotonic() - started < 1
        assert refused.value.detail == "queue_timeout"
        await first


async def test_the_leases_of_a_dead_worker_end(redis_url: str, loop_guard: LoopGuard) -> None:
    busy = Busy()
    few = {"concurrency": 2, "lease_s": 0.4}
    async with open_worker(redis_url, loop_guard, **few) as dead, open_worker(redis_url, loop_guard, **few) as other:
        key = "parley:{provider:shop}:leases"
        for lease in ("a", "b"):  # held, never renewed, never released
            assert await dead.leases._run("take", "shop", 2, lease)
        started = time.monotonic()
        await busy.work(other, 1)
        waited = time.monotonic() - started
        print(f"a place of a dead worker was free after {waited:.2f} s (lease 0.4 s)")
        assert 0.2 < waited < 1.6
        assert await other.scripts.line.redis.zcard(key) <= 1


async def test_a_lease_that_is_renewed_outlives_its_time(redis_url: str, loop_guard: LoopGuard) -> None:
    busy = Busy()
    few = {"concurrency": 1, "lease_s": 1.0, "queue_s": 1.5}
    async with open_worker(redis_url, loop_guard, **few) as one, open_worker(redis_url, loop_guard, **few) as two:
        one.tasks.keep("renew leases", one.leases.renew)
        long = asyncio.create_task(busy.work(one, 1, 2.5))
        await asyncio.sleep(0.05)
        with pytest.raises(QueueFull):
            await busy.work(two, 2)
        await long


async def test_a_cancelled_wait_leaves_no_lease(redis_url: str, loop_guard: LoopGuard) -> None:
    busy = Busy()
    async with open_worker(redis_url, loop_guard, concurrency=3) as worker:
        runs = [asyncio.create_task(busy.work(worker, n, 5)) for n in range(20)]
        await asyncio.sleep(0.05)
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        await asyncio.sleep(0.05)
        assert await worker.scripts.line.redis.zcard("parley:{provider:shop}:leases") == 0
        assert worker.leases.waiting("shop") == 0
        await busy.work(worker, 99)


async def test_without_redis_a_worker_keeps_to_its_share(loop_guard: LoopGuard) -> None:
    busy = Busy()
    async with open_worker(NOWHERE, loop_guard, concurrency=8, alone_share=0.25) as worker:
        await asyncio.gather(*(busy.work(worker, n) for n in range(12)))
    assert busy.most == 2


async def test_a_provider_may_have_a_limit_of_its_own(redis_url: str, loop_guard: LoopGuard) -> None:
    busy = Busy()
    async with open_worker(redis_url, loop_guard) as worker:
        await asyncio.gather(*(busy.work(worker, n, limit=2) for n in range(8)))
    assert busy.most == 2
