"""Health while the engines hang: answered in time, by one check for all who ask, and an outage only when it is one."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from tests.story.serving import Serving

from parley.core.health import SILENT_S

CALLERS = 60
IN_TIME_S = 1.0  # the deadline of a check
LEEWAY_S = 4.0  # as many connections on a busy machine


@contextmanager
def stopped(serving: Serving, engine: str) -> Iterator[None]:
    """Stop every process of an engine, as a machine that swaps does."""
    pids = [pid for pid, line in serving.processes().items() if engine in line and "parley.cli" not in line]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def ask_many(serving: Serving, path: str) -> tuple[set[int], set[str], float]:
    """Return the statuses that many callers at once are told, and how long the last one waited."""
    limits = httpx.Limits(max_connections=CALLERS)
    async with httpx.AsyncClient(base_url=serving.address, limits=limits, timeout=30) as http:
        began = time.monotonic()
        answers = await asyncio.gather(*(http.get(path) for _ in range(CALLERS)))
        took_s = time.monotonic() - began
    return {answer.status_code for answer in answers}, {answer.json()["status"] for answer in answers}, took_s


async def until(serving: Serving, status: str, within_s: float) -> float:
    """Return how long it took until health told so."""
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=serving.address, timeout=30) as http:
        while (await http.get("/health")).json()["status"] != status:
            assert time.monotonic() - began < within_s, f"not {status} in time"
            await asyncio.sleep(0.2)
    return time.monotonic() - began


@pytest.mark.usefixtures("at_leisure")
async def test_engines_that_hang_hold_no_probe_up(serve: Callable[..., Serving]) -> None:
    serving = serve("--workers", "1", environ={"PARLEY_CHAT_LOOP_LAG_S": "10"})
    serving.wait_ready()
    await until(serving, "ok", 15)

    with stopped(serving, "valkey"):
        await asyncio.sleep(2.1)  # what was found is remembered for two seconds
        statuses, said, took_s = await ask_many(serving, "/health")
        assert (statuses, said) == ({200}, {"degraded"})
        assert took_s < IN_TIME_S + LEEWAY_S
    await until(serving, "ok", 15)

    with stopped(serving, "postgres"):
        await asyncio.sleep(2.1)
        statuses, said, took_s = await ask_many(serving, "/health")
        assert (statuses, said) == ({200}, {"degraded"}), "slow is not down"
        assert took_s < IN_TIME_S + LEEWAY_S
        for path in ("/health/live", "/health/ready"):
            statuses, said, took_s = await ask_many(serving, path)
            assert (statuses, len(said)) == ({200}, 1), "a store that hangs takes no worker out"
            assert took_s < LEEWAY_S
        await until(serving, "down", SILENT_S + 5)
        assert (await ask_many(serving, "/health"))[0] == {503}
    await until(serving, "ok", 30)
