"""50 times kill -9 of the worker that writes: no answer is lost, doubled or torn."""

import asyncio
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.soak.chats import Room, open_rooms, restarts, shortened, spread, workers_back
from tests.soak.conftest import Figure
from tests.story.chatting import Chatting, Person, Stage, staged, tokens

KILLS = 50
WORKERS = 3
REPLIES = 4  # of the victim, at the moment of its death
ANSWER = tokens(150, 0.02)
ANSWER_S = 3.0
TAKEOVER_S = 5.0


@dataclass
class Toll:
    """What all kills came to."""

    replies: int = 0
    took_s: list[float] = field(default_factory=list)
    """From the kill to the first word of somebody else's, of replies that were live, as other workers' viewers saw."""
    back_s: list[float] = field(default_factory=list)
    """From the kill until the victim's own viewers were somewhere else."""
    restarts: int = 0
    failed: int = 0
    respawn_s: list[float] = field(default_factory=list)


def word_after(room: Room, message_id: str, killed_at: float) -> float | None:
    """Return how long viewers waited for somebody to go on with a reply; None where it needed nobody."""
    firsts = []
    for screen in room.screens[1:]:
        heard = [one for one in screen.history.heard if one.event.get("message_id") == message_id]
        ended_before = any(one.event["type"] == "complete" and one.at <= killed_at for one in heard)
        if ended_before:
            return None
        signs = {"restart", "complete", "start"}
        firsts += [one.at - killed_at for one in heard if one.event["type"] in signs and one.at > killed_at][:1]
    return min(firsts, default=None)


async def kill_one(stage: Stage, person: Person, agent: str, chance: random.Random, toll: Toll) -> None:
    serving = stage.chatting.serving
    victim = chance.choice(sorted(serving.workers()))
    is_dead = False
    there = await stage.door(lambda pid: is_dead or pid == victim)
    elsewhere = await stage.door(lambda pid: pid != victim)
    places = [(there, "ws"), (elsewhere, "ws"), (elsewhere, "sse")]
    rooms = await open_rooms(stage, person, agent, REPLIES, places)

    async def ask(room: Room) -> None:
        await asyncio.sleep(chance.uniform(0, ANSWER_S))
        await room.ask()

    asking = [asyncio.create_task(ask(room)) for room in rooms]
    await asyncio.sleep(chance.uniform(0.1, 2 * ANSWER_S))
    told_before = [len(room.asker.history.of_type("ready")) for room in rooms]
    os.kill(victim, signal.SIGKILL)
    killed_at, is_dead = time.monotonic(), True
    await asyncio.gather(*asking)
    respawn = asyncio.create_task(workers_back(serving, WORKERS))
    rows = await stage.settle(*(room.id for room in rooms), patience_s=60.0)
    took = [word_after(room, reply, killed_at) for room in rooms for reply in room.replies]
    taken_over = {row["id"] for row in rows if row["takeovers"]}
    for room, times in zip(rooms, told_before, strict=True):
        ready = [one.at for one in room.asker.history.heard if one.event["type"] == "ready"]
        toll.back_s += [at - killed_at for at in ready[times : times + 1]]
    toll.took_s += [
        late
        for late, reply in zip(took, (reply for room in rooms for reply in room.replies), strict=True)
        if late is not None and reply in taken_over
    ]
    toll.replies += len(rooms)
    toll.restarts += restarts(stage.screens)
    toll.failed += sum(row["status"] == "failed" for row in rows)
    toll.respawn_s.append(await respawn)


async def live_through(chatting: Chatting, seed: int, kills: int) -> Toll:
    chance, toll = random.Random(seed), Toll()
    person, agent = await chatting.person(), await chatting.agent(ANSWER)
    for _ in range(kills):
        async with staged(chatting) as stage:
            await kill_one(stage, person, agent, chance, toll)
    return toll


@pytest.mark.timeout(3600)
def test_kills_of_the_writing_worker_are_taken_over(place: Path, figure: Figure, seed: int) -> None:
    kills = shortened(KILLS)
    chatting = Chatting(place, "--workers", str(WORKERS))
    try:
        toll = asyncio.run(live_through(chatting, seed, kills))
    finally:
        chatting.end()
    figure(f"{kills} kills, {toll.replies} replies, {len(toll.took_s)} taken over, {toll.restarts} restarts on screens")
    figure(f"from the kill to another worker's first word: {spread(toll.took_s)}")
    figure(f"from the kill until the victim's own viewers were elsewhere: {spread(toll.back_s)}")
    figure(f"all workers back, after the replies had ended: {spread(toll.respawn_s)}")
    assert toll.failed == 0
    assert max(toll.took_s, default=0) <= TAKEOVER_S
