"""1,000 viewers of one reply, 50 of whom read nothing; and 2,000 sockets that fall and come back all at once."""

import asyncio
import random
import re
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.fixtures.history import Fields, check
from tests.soak.chats import shortened, spread
from tests.soak.conftest import Figure
from tests.soak.crowd import Member, join_all, leave_all, until_ended
from tests.story.chatting import Chatting, Person, percentile, staged, tokens

VIEWERS, STOPPED, PAIRS = 1000, 50, 5
RATIO = 1.2
GROWTH_BYTES = 150 * 1024 * 1024  # of all workers, over all runs
STAMPED, PIECE_BYTES, STAMP_PAUSE_S = 60, 4000, 0.2
STAMP = re.compile(rb"\[(\d+)\]")
STORM, ROOMS = 2000, 50
AT_ONCE = 100
MANY = {
    "PARLEY_CHAT_SOCKETS_PER_USER": "10000",
    "PARLEY_CHAT_SOCKETS_PER_ADDRESS": "10000",
    "PARLEY_SEND_BUFFER_BYTES": "16384",  # so that who does not read is felt soon
}
STAMPING = f'''
"""An agent that says when it says it, at length."""
import asyncio, time
from parley.agents.interface import Finished, TextGrew

async def answer(turn):
    for _ in range({STAMPED}):
        yield TextGrew(f"[{{time.monotonic_ns()}}]" + "x" * {PIECE_BYTES})
        await asyncio.sleep({STAMP_PAUSE_S})
    yield Finished("stop")
'''


def resident_bytes(pids: Sequence[int]) -> int:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * 4096


def latencies(members: Sequence[Member]) -> list[float]:
    """Return what each token took from the agent to each viewer."""
    found: list[float] = []
    for member in members:
        for at, frame in member.frames:
            if b'"type":"token"' in frame:
                found += [at - int(stamp) / 1e9 for stamp in STAMP.findall(frame)]
    return found


async def one_run(chatting: Chatting, person: Person, agent: str, count: int, stopped: int) -> list[float]:
    """Return how late each word was to those who read, beside so many who do not."""
    conversation = await chatting.conversation(person, agent)
    port = chatting.serving.port
    members = [Member(f"member {n}", port, conversation, person.token) for n in range(count)]
    idle = [Member(f"idle {n}", port, conversation, person.token, is_small=True) for n in range(stopped)]
    async with staged(chatting) as stage:
        await join_all([*members, *idle], at_once=AT_ONCE)
        for member in idle:
            member.stop_reading()
        asker = await stage.tab(person, conversation)
        await asker.send("Hello?")
        await until_ended(members)
        assert not any(member.has_ended() for member in idle)
        await leave_all(idle)
        await join_all(idle, at_once=AT_ONCE)  # where they were
        await until_ended(idle)
        rows = await stage.settle(conversation, patience_s=90.0)
        sample = members[:: max(1, count // 20)]
        assert check([member.history(person.id) for member in (*sample, *idle)], rows) == []
        await leave_all([*members, *idle])
    return latencies(members)


@asynccontextmanager
async def stamped(place: Path) -> AsyncIterator[Chatting]:
    (place / "stamping.py").write_text(STAMPING)
    chatting = await asyncio.to_thread(Chatting, place, "--workers", "2", environ={**MANY, "PYTHONPATH": str(place)})
    try:
        yield chatting
    finally:
        await asyncio.to_thread(chatting.end)


@pytest.mark.timeout(1800)
def test_viewers_who_read_nothing_cost_the_others_nothing(place: Path, figure: Figure) -> None:
    count, stopped, ratios = shortened(VIEWERS - STOPPED, 20), shortened(STOPPED, 3), list[float]()

    async def live_through() -> int:
        async with stamped(place) as chatting:
            person, agent = await chatting.person(), await chatting.agent("demo", kind="python:stamping:answer")
            pids = sorted(chatting.serving.workers())
            await one_run(chatting, person, agent, count, stopped)  # for warmth
            before = resident_bytes(pids)
            for number in range(shortened(PAIRS, 3)):
                # Each second pair the other way round: what drifts falls on both.
                runs = {}
                for idle in (0, stopped) if number % 2 else (stopped, 0):
                    runs[idle] = percentile(found := await one_run(chatting, person, agent, count, idle), 0.99)
                    figure(f"{idle} read nothing beside {count}: {spread(found, 'ms', 1000)}")
                ratios.append(runs[stopped] / runs[0])
                figure(f"memory of the workers so far: {(resident_bytes(pids) - before) / 1024 / 1024:+.1f} MiB")
            return resident_bytes(pids) - before

    growth = asyncio.run(live_through())
    figure(f"ratios of p99: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; median {statistics.median(ratios):.2f}")
    figure(f"memory of the workers grew by {growth / 1024 / 1024:.1f} MiB")
    assert statistics.median(ratios) <= RATIO
    assert growth <= GROWTH_BYTES


@pytest.mark.timeout(900)
def test_a_storm_of_sockets_comes_back(place: Path, figure: Figure, seed: int) -> None:
    count, rooms = shortened(STORM, 20), shortened(ROOMS, 4)
    chance = random.Random(seed)

    async def live_through() -> tuple[list[Member], list[Fields], Person]:
        person, agent = await chatting.person(), await chatting.agent(tokens(25, 1.0))
        conversations = [await chatting.conversation(person, agent) for _ in range(rooms)]
        port = chatting.serving.port
        members = [Member(f"member {n}", port, conversations[n % rooms], person.token) for n in range(count)]
        figure(f"{count} joined: each within {spread(await join_all(members, at_once=AT_ONCE))}")
        async with staged(chatting) as stage:
            askers = [await stage.tab(person, conversation) for conversation in conversations]
            await asyncio.gather(*(asker.send("Hello?") for asker in askers))
            await asyncio.sleep(3.0)
            await leave_all(members)
            began = time.monotonic()

            async def come_back(member: Member) -> float:
                await asyncio.sleep(chance.uniform(0, 1.0))
                return await member.join()

            took = await asyncio.gather(*(come_back(member) for member in members))
            figure(f"{count} came back within {time.monotonic() - began:.2f} s; each within {spread(took)}")
            await until_ended(members)
            rows = await stage.settle(*conversations, patience_s=90.0)
            await leave_all(members)
        return members, list(rows), person

    chatting = Chatting(place, "--workers", "2", environ=MANY)
    try:
        members, rows, person = asyncio.run(live_through())
    finally:
        chatting.end()
    wrong = check([member.history(person.id) for member in members], rows)
    resets = sum(b'"type":"reset"' in frame for member in members for _, frame in member.frames) - len(members)
    figure(f"{sum(len(member.refusals) for member in members)} refusals, {resets} resets, {len(wrong)} violations")
    assert wrong == []
    assert resets == 0
