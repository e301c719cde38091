"""Valkey flushed, restarted empty or with an old log, hung, full, deaf, each under 50 live replies."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis
from tests.soak.chats import MANY_CALLS, Room, open_rooms, pace_between, restarts, shortened, spread, unfinished
from tests.soak.conftest import Figure
from tests.story.chatting import Chatting, percentile, staged, tokens
from tests.story.doors import Door
from tests.story.serving import Serving

REPLIES = 50
ASKED_DURING = 5  # one of so many is asked, and ends, while it is away
PACE_S = 0.1
ANSWER, SHORT = tokens(140, PACE_S), tokens(30, PACE_S)
BEFORE_S = 2.0
HUNG_S = 10.0
LATE_S = 0.25  # of a token, on a machine that has other work to do
APART_S = 3.0
FLUSH_EVERY_S, DEAFEN_EVERY_S = 0.5, 0.2
Fault = Callable[[Serving], Coroutine[Any, Any, None]]


async def _with_redis(serving: Serving, stack: AsyncExitStack) -> Redis:
    return await stack.enter_async_context(Redis.from_url(serving.told()["redis_url"]))


async def flush(serving: Serving) -> None:
    async with AsyncExitStack() as stack:
        client = await _with_redis(serving, stack)
        for _ in range(int(HUNG_S / FLUSH_EVERY_S)):
            await client.flushall()
            await asyncio.sleep(FLUSH_EVERY_S)


async def kill(serving: Serving) -> None:
    os.kill(await asyncio.to_thread(serving.engine, "valkey-server"), signal.SIGKILL)


async def restart_empty(serving: Serving) -> None:
    """End it three times without anything that it could remember."""
    for _ in range(3):
        async with AsyncExitStack() as stack:
            client = await _with_redis(serving, stack)
            with suppress(redis.RedisError):
                await client.flushall()
        await kill(serving)
        await asyncio.sleep(3.0)


async def restart_old(serving: Serving) -> None:
    """Let it forget what was written last, as a failover does: its log of commands ends before."""
    for _ in range(2):
        async with AsyncExitStack() as stack:
            client = await _with_redis(serving, stack)
            await client.config_set("appendonly", "no")
        await asyncio.sleep(2.0)
        await kill(serving)
        await asyncio.sleep(3.0)


async def hang(serving: Serving) -> None:
    pid = await asyncio.to_thread(serving.engine, "valkey-server")
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(HUNG_S)
    finally:
        os.kill(pid, signal.SIGCONT)


async def fill(serving: Serving) -> None:
    """Leave it no memory: it answers, and takes nothing more."""
    async with AsyncExitStack() as stack:
        client = await _with_redis(serving, stack)
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "1mb")
        await asyncio.sleep(HUNG_S)
        await client.config_set("maxmemory", "0")


async def deafen(serving: Serving) -> None:
    """Cut every subscriber, again and again."""
    async with AsyncExitStack() as stack:
        client = await _with_redis(serving, stack)
        for _ in range(int(HUNG_S / DEAFEN_EVERY_S)):
            await client.client_kill_filter(_type="pubsub")
            await asyncio.sleep(DEAFEN_EVERY_S)


FAULTS: dict[str, Fault] = {
    "flushed": flush, "restarted empty": restart_empty, "restarted with an old log": restart_old,
    "hung": hang, "full": fill, "deaf": deafen,
}  # fmt: skip


async def live_through(chatting: Chatting, fault: Fault, count: int, figure: Figure) -> float:
    """Return the p90 of how late tokens were for the writing workers' own viewers during the fault."""
    person, long, short = await chatting.person(), await chatting.agent(ANSWER), await chatting.agent(SHORT)
    first, second = sorted(chatting.serving.workers())
    async with staged(chatting) as stage:
        doors = [await stage.door_to(first), await stage.door_to(second)]

        def places(number: int) -> list[tuple[Door, str]]:
            return [(doors[number % 2], "ws"), (doors[1 - number % 2], "sse")]

        early = await open_rooms(stage, person, long, count - count // ASKED_DURING, places)
        late = await open_rooms(stage, person, short, max(1, count // ASKED_DURING), places)
        rooms = [*early, *late]
        await asyncio.gather(*(room.ask() for room in early))
        await asyncio.sleep(BEFORE_S)
        began = time.monotonic()
        failing = asyncio.create_task(fault(chatting.serving))
        await asyncio.sleep(1.0)
        asked_at = time.monotonic()
        await asyncio.gather(*(room.ask() for room in late))
        figure(f"{len(late)} more were asked during it within {time.monotonic() - asked_at:.2f} s")
        await failing
        ended = time.monotonic()
        rows = await stage.settle(*(room.id for room in rooms), patience_s=60.0)
        own, others = [room.screens[0] for room in rooms], [room.screens[1] for room in rooms]
        figure(f"replies that were not completed: {await unfinished(chatting)}")
        before = pace_between(own, began - BEFORE_S, began)
        during = pace_between(own, began, ended)
        elsewhere = pace_between(others, began, ended)
        figure(
            f"{count} replies, {restarts(stage.screens)} restarts, {sum(row['takeovers'] for row in rows)} takeovers"
        )
        figure(f"gaps at the writer's viewers before: {spread(before)}; during: {spread(during)}")
        figure(f"gaps at other workers' viewers during: {spread(elsewhere)}")
        apart = ends_apart(late)
        figure(f"the end elsewhere after the end here, during: {spread(apart)}; later: {spread(ends_apart(early))}")
        assert max(apart) <= APART_S
        assert all(row["status"] == "complete" for row in rows)
        assert not any(row["takeovers"] for row in rows)
    return percentile(during, 0.9) - PACE_S


def ends_apart(rooms: list[Room]) -> list[float]:
    """Return by how much the end came later to viewers of another worker."""
    found = []
    for room in rooms:
        ends = [[one.at for one in screen.history.heard if one.event["type"] == "complete"] for screen in room.screens]
        found += [there - here for here, there in zip(*ends, strict=True)]
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FAULTS)
def test_what_valkey_goes_through_harms_no_answer(place: Path, figure: Figure, name: str) -> None:
    chatting = Chatting(place, "--workers", "2", environ=MANY_CALLS)
    try:
        late_s = asyncio.run(live_through(chatting, FAULTS[name], shortened(REPLIES, 4), figure))
    finally:
        chatting.end()
    figure(f"tokens late at the writer's viewers, p90: {late_s:.3f} s")
    assert late_s <= LATE_S
