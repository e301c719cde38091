"""Steps on Redis: names that fit a cluster, bursts that do not look like an outage, outages that cost little."""

import asyncio
import time

import pytest
from redis.crc import key_slot
from tests.agents.shared_state import NOWHERE, open_worker
from tests.fixtures.guards import LoopGuard

from parley.agents.scripts import SharedAway, tagged

HOSTILE = ["m", "a}b", "{", "}", "{}", "a:b", "a\nb", "*", "ключ", "\0", "x" * 300]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_group_of_keys_stays_in_one_slot_whatever_its_name(name: str) -> None:
    tag = tagged("breaker", name, "model")

    assert tag.startswith("parley:{breaker:")
    assert tag.count("{") == tag.count("}") == 1
    assert tag.isascii()
    assert tag.isprintable()
    assert key_slot(f"{tag}:a".encode()) == key_slot(f"{tag}:b".encode())


def test_names_that_differ_make_groups_that_differ() -> None:
    assert len({tagged("x", name) for name in HOSTILE}) == len(HOSTILE)
    assert tagged("x", "a", "b:c") != tagged("x", "a:b", "c")


async def test_a_burst_does_not_look_like_an_outage(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_worker(redis_url, loop_guard) as worker:
        keys = ["parley:{provider:burst}:leases"]
        counts = await asyncio.gather(*(worker.leases._step(keys, "renew", 9000, 0, str(n)) for n in range(500)))
        assert max(counts) == 500
        assert not worker.scripts.is_resting


async def test_an_outage_is_paid_for_once_a_second(loop_guard: LoopGuard) -> None:
    async with open_worker(NOWHERE, loop_guard) as worker:
        started = time.monotonic()
        for _ in range(100):
            with pytest.raises(SharedAway):
                await worker.leases._step(["parley:{provider:away}:leases"], "renew", 9000, 0, "a")
        assert time.monotonic() - started < 0.5
        assert worker.scripts.is_resting


async def test_a_redis_that_lost_its_scripts_is_sent_them_again(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_worker(redis_url, loop_guard) as worker:
        keys = ["parley:{provider:flushed}:leases"]
        assert await worker.leases._step(keys, "take", 9000, 5, "a") == 1
        await worker.scripts.line.redis.script_flush()
        assert await worker.leases._step(keys, "take", 9000, 5, "b") == 1
