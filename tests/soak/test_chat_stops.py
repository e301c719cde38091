"""200 stops from the other worker's tabs: the call to the model is closed at once, and no word follows the end."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis.asyncio import Redis
from tests.soak.chats import Room, open_rooms, shortened, spread
from tests.soak.conftest import Figure
from tests.story.chatting import Chatting, Stage, percentile, staged, tokens
from tests.story.serving import Serving

STOPS = 200
AT_ONCE = 8
WITHIN_S, HUNG_WITHIN_S = 0.25, 1.0
DEAFEN_EVERY_S = 0.2
Disturbance = Callable[[Serving], AbstractAsyncContextManager[None]]


@dataclass
class Times:
    """Of all stops."""

    closed_s: list[float] = field(default_factory=list)
    """From the command until the provider saw its connection closed."""
    told_s: list[float] = field(default_factory=list)
    """From the command until whoever stopped was told of the end."""
    missed: int = 0
    """Replies that had ended by themselves."""


@asynccontextmanager
async def undisturbed(_: Serving) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def deaf(serving: Serving) -> AsyncIterator[None]:
    """Cut every subscriber, again and again."""

    async def cut() -> None:
        async with Redis.from_url(serving.told()["redis_url"]) as client:
            while True:
                await client.client_kill_filter(_type="pubsub")
                await asyncio.sleep(DEAFEN_EVERY_S)

    cutting = asyncio.create_task(cut())
    try:
        yield
    finally:
        cutting.cancel()
        await asyncio.gather(cutting, return_exceptions=True)


@asynccontextmanager
async def hung(serving: Serving) -> AsyncIterator[None]:
    pid = await asyncio.to_thread(serving.engine, "valkey-server")
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(1.0)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def stop_round(stage: Stage, rooms: dict[str, Room], disturb: Disturbance, seed: int, times: Times) -> None:
    """Ask in every room, and stop each reply at a random moment, from the other worker's tab."""
    chance = random.Random(seed)
    replies = {model: str((await room.ask()).reply_id) for model, room in rooms.items()}
    await asyncio.gather(*(rooms[model].screens[1].until_text(1, reply) for model, reply in replies.items()))
    sent_at: dict[str, float] = {}

    async def stop(model: str, reply: str) -> None:
        stopper = rooms[model].screens[1]
        await asyncio.sleep(chance.uniform(0.0, 2.0))
        sent_at[model] = time.monotonic()
        await stopper.socket.stop(reply)
        end = await stopper.until_end(reply)
        times.told_s += [one.at - sent_at[model] for one in stopper.history.heard if one.event is end]
        times.missed += end["status"] != "stopped"

    async with disturb(stage.chatting.serving):
        await asyncio.gather(*(stop(model, reply) for model, reply in replies.items()))
    for model in replies:
        calls = await stage.chatting.provider.calls(model)
        call, heard = calls[-1], rooms[model].screens[1].history.heard
        told = [(one.at - sent_at[model], one.event) for one in heard if one.at > sent_at[model] - 0.1][:40]
        assert call["outcome"] != "complete", f"{calls[-2:]}, sent at {sent_at[model]}, told {told}"
        times.closed_s.append(call["gone_at"] - sent_at[model])


async def live_through(chatting: Chatting, disturb: Disturbance, stops: int, seed: int) -> Times:
    times = Times()
    person = await chatting.person()
    models = [tokens(1000, 0.02, key=f"stop-{number}") for number in range(min(AT_ONCE, stops))]
    agents = [await chatting.agent(model) for model in models]
    for number in range(-(-stops // len(models))):
        async with staged(chatting) as stage:
            doors = [await stage.door_to(pid) for pid in sorted(chatting.serving.workers())]
            rooms: dict[str, Room] = {}
            for place, (model, agent) in enumerate(zip(models, agents, strict=True)):
                places = [(doors[(place + shift) % 2], "ws") for shift in (0, 1)]
                [rooms[model]] = await open_rooms(stage, person, agent, 1, places)
            await stop_round(stage, rooms, disturb, seed + number, times)
            await asyncio.sleep(0.5)
            await stage.settle(*(room.id for room in rooms.values()), patience_s=60.0)
    return times


def run(place: Path, figure: Figure, seed: int, disturb: Disturbance, stops: int) -> float:
    """Return the 99th percentile of what it took to close the call to the model."""
    chatting = Chatting(place, "--workers", "2")
    try:
        times = asyncio.run(live_through(chatting, disturb, shortened(stops, 4), seed))
    finally:
        chatting.end()
    figure(f"from the command until the provider saw the close: {spread(times.closed_s, 'ms', 1000)}")
    figure(f"until whoever stopped was told of the end: {spread(times.told_s, 'ms', 1000)}; missed {times.missed}")
    return percentile(times.closed_s, 0.99)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("disturb", [undisturbed, deaf])
def test_a_stop_from_elsewhere_closes_the_call(place: Path, figure: Figure, seed: int, disturb: Disturbance) -> None:
    assert run(place, figure, seed, disturb, STOPS) <= WITHIN_S


@pytest.mark.timeout(1800)
def test_a_stop_from_elsewhere_needs_no_valkey(place: Path, figure: Figure, seed: int) -> None:
    assert run(place, figure, seed, hung, STOPS // 4) <= HUNG_WITHIN_S
