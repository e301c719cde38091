"""PostgreSQL restarted under load, gone for 20 s, and hung for 20 s: nothing is lost, and nobody taken over."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.soak.chats import MANY_CALLS, Room, open_rooms, pace_between, refusals, restarts, shortened, spread
from tests.soak.conftest import Figure
from tests.story.chatting import Chatting, staged, tokens
from tests.story.doors import Door
from tests.story.serving import Serving

REPLIES = 30
SHORT, LONG = tokens(30, 0.1), tokens(300, 0.1)
RESTARTS = 4
AWAY_S = 20.0
PATIENCE_S = 120.0
Fault = Callable[[Serving, int], Awaitable[None]]


async def restart(serving: Serving, times: int) -> None:
    """End it without a word, as a power cut does; its supervisor starts it again."""
    for _ in range(times):
        os.kill(await asyncio.to_thread(serving.engine, "bin/postgres"), signal.SIGQUIT)
        await asyncio.sleep(AWAY_S / RESTARTS)


async def go(serving: Serving, _: int) -> None:
    """End it, and let no other start meanwhile."""
    [cluster] = [path.parent for path in serving.data.glob("postgres*/PG_VERSION")]
    here, elsewhere = cluster / "PG_VERSION", cluster / "PG_VERSION.elsewhere"
    here.rename(elsewhere)
    try:
        os.kill(await asyncio.to_thread(serving.engine, "bin/postgres"), signal.SIGQUIT)
        await asyncio.sleep(AWAY_S)
    finally:
        elsewhere.rename(here)


async def hang(serving: Serving, _: int) -> None:
    """Stop the whole of it: connections stay open and nobody answers."""
    parent = await asyncio.to_thread(serving.engine, "bin/postgres")
    stopped: set[int] = set()
    try:
        until = time.monotonic() + AWAY_S
        while time.monotonic() < until:
            every = await asyncio.to_thread(serving.processes)
            for pid in {pid for pid, line in every.items() if "postgres" in line} | {parent}:
                if pid not in stopped:
                    os.kill(pid, signal.SIGSTOP)
                    stopped.add(pid)
            await asyncio.sleep(0.5)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


FAULTS: dict[str, Fault] = {"restarted": restart, "gone": go, "hung": hang}


async def keep_asking(room: Room, chance: random.Random, until: Callable[[], bool]) -> None:
    """Ask one question after the other, whether the last one was answered or not."""
    while not until():
        await room.ask(f"Question {len(room.replies)}?", patience_s=PATIENCE_S)
        await asyncio.sleep(chance.uniform(1.0, 5.0))


async def live_through(chatting: Chatting, name: str, count: int, seed: int, figure: Figure) -> None:
    chance = random.Random(seed)
    person = await chatting.person()
    short, long = await chatting.agent(SHORT), await chatting.agent(LONG)
    first, second = sorted(chatting.serving.workers())
    async with staged(chatting) as stage:
        doors = [await stage.door_to(first), await stage.door_to(second)]
        is_over = False

        def places(number: int) -> list[tuple[Door, str]]:
            return [(doors[number % 2], "ws"), (doors[1 - number % 2], "ws")]

        talkers = await open_rooms(stage, person, short, count // 2, places)
        listeners = await open_rooms(stage, person, long, count - count // 2, places)
        await asyncio.gather(*(room.ask() for room in listeners))
        talking = [asyncio.create_task(keep_asking(room, chance, lambda: is_over)) for room in talkers]
        await asyncio.sleep(4.0)
        began = time.monotonic()
        await FAULTS[name](chatting.serving, shortened(RESTARTS, 2))
        ended = time.monotonic()
        is_over = True
        await asyncio.gather(*talking)
        figure(f"every question taken {time.monotonic() - ended:.1f} s after it")
        rows = await stage.settle(*(room.id for room in (*talkers, *listeners)), patience_s=PATIENCE_S)
        own, others = ([room.screens[place] for room in listeners] for place in (0, 1))
        asked = sum(len(room.replies) for room in (*talkers, *listeners))
        figure(f"{asked} questions, {restarts(stage.screens)} restarts, refusals: {refusals([*talkers, *listeners])}")
        figure(f"gaps at the writer's viewers before: {spread(pace_between(own, began - 3.0, began))}")
        figure(f"during, here: {spread(pace_between(own, began, ended))}")
        figure(f"during, at another worker: {spread(pace_between(others, began, ended))}")
        lost = [row for row in rows if row["role"] == "assistant" and row["status"] != "complete"]
        figure(f"{sum(row['takeovers'] for row in rows)} takeovers, {len(lost)} replies not complete")
        again = [row["attempt"] for row in rows if row["attempt"] > 1]
        figure(
            f"attempts of those begun again: {again}; released {chatting.serving.err.count('replies_released')} times"
        )
        assert not any(row["takeovers"] for row in rows)
        assert not lost


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FAULTS)
def test_what_postgresql_goes_through_loses_nothing(place: Path, figure: Figure, seed: int, name: str) -> None:
    chatting = Chatting(place, "--workers", "2", environ=MANY_CALLS)
    try:
        asyncio.run(live_through(chatting, name, shortened(REPLIES, 4), seed, figure))
    finally:
        chatting.end()
