"""Rows of the failure matrix: death behind a commit, a worker that wakes up, unknown commits, a small pool."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from tests.soak.chats import Room, open_rooms, refusals, restarts, shortened, spread, workers_back
from tests.soak.conftest import Figure
from tests.soak.crowd import Member, join_all, leave_all, until_ended
from tests.soak.taps import tap
from tests.story.chatting import Chatting, staged, tokens

DEATHS, SLEEPS, CUTS_S, STREAMS = 10, 5, 60.0, 200
TAKEOVER_S = 5.0
ASLEEP_S = 10.0
CUT_ONE_IN = 6  # of all commits, those of beats and sweeps as well
SAMPLES = 100
DYING = '''
"""Brings an agent, and death right behind the commit of an end, when there is a file that says so."""
import asyncio, os, pathlib, signal
from parley.agents.interface import Finished, TextGrew
from parley.chat.replies import Replies

sign = pathlib.Path(__file__).parent / "die"
follow_up = Replies.follow_up

def follow_up_or_die(self, committed):
    views = [change.view for change in committed.changes]
    if any(view.get("role") == "assistant" and view["status"] == "complete" for view in views) and sign.exists():
        sign.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    follow_up(self, committed)

Replies.follow_up = follow_up_or_die

async def answer(turn):
    for number in range(20):
        yield TextGrew(f" T{number}")
        await asyncio.sleep(0.05)
    yield Finished("stop")
'''


@asynccontextmanager
async def running(place: Path, *arguments: str, **options: Any) -> AsyncIterator[Chatting]:
    chatting = await asyncio.to_thread(Chatting, place, *arguments, **options)
    try:
        yield chatting
    finally:
        await asyncio.to_thread(chatting.end)


@pytest.mark.timeout(1200)
def test_an_end_that_nobody_told_is_told(place: Path, figure: Figure) -> None:
    """Row 2: the worker dies between the commit and `complete`."""
    (place / "dying.py").write_text(DYING)

    async def live_through() -> list[float]:
        took = []
        async with running(place, "--workers", "2", environ={"PYTHONPATH": str(place)}) as chatting:
            person, agent = await chatting.person(), await chatting.agent("demo", kind="python:dying:answer")
            for _ in range(shortened(DEATHS, 2)):
                await workers_back(chatting.serving, 2)
                async with staged(chatting) as stage:
                    victim, other = sorted(chatting.serving.workers())
                    is_dead = False
                    there = await stage.door(lambda pid, victim=victim: is_dead or pid == victim)  # type: ignore[misc]  # noqa: B023
                    elsewhere = await stage.door_to(other)
                    places = [(there, "ws"), (elsewhere, "ws"), (elsewhere, "sse")]
                    [room] = await open_rooms(stage, person, agent, 1, places)
                    (place / "die").touch()
                    reply = str((await room.ask()).reply_id)
                    async with asyncio.timeout(30.0):
                        while (place / "die").exists():
                            await asyncio.sleep(0.005)
                    died_at, is_dead = time.monotonic(), True
                    await asyncio.gather(*(screen.until_end(reply) for screen in room.screens[1:]))
                    took.append(time.monotonic() - died_at)
                    rows = await stage.settle(room.id, patience_s=60.0)
                    assert [(row["status"], row["attempt"]) for row in rows[1:]] == [("complete", 1)]
                    assert restarts(stage.screens) == 0
        return took

    took = asyncio.run(live_through())
    figure(f"from the death to `complete` elsewhere: {spread(took)}")
    assert max(took) <= TAKEOVER_S


@pytest.mark.timeout(1200)
def test_a_worker_that_wakes_up_changes_nothing(place: Path, figure: Figure) -> None:
    """Row 3: stopped for 10 s, it has lost its replies; some have ended meanwhile, some have not."""

    async def live_through() -> list[float]:
        took: list[float] = []
        async with running(place, "--workers", "2") as chatting:
            person = await chatting.person()
            agents = [await chatting.agent(tokens(count, 0.1)) for count in (30, 120)]
            for number in range(shortened(SLEEPS, 2)):
                await workers_back(chatting.serving, 2)
                async with staged(chatting) as stage:
                    sleeper, other = sorted(chatting.serving.workers(), reverse=bool(number % 2))
                    there, elsewhere = await stage.door_to(sleeper), await stage.door_to(other)
                    places = [(there, "ws"), (there, "sse"), (elsewhere, "ws")]
                    rooms: list[Room] = []
                    for agent in agents:
                        rooms += await open_rooms(stage, person, agent, 4, places)
                    await asyncio.gather(*(room.ask() for room in rooms))
                    await asyncio.sleep(1.5)
                    os.kill(sleeper, signal.SIGSTOP)
                    stopped_at = time.monotonic()
                    await asyncio.sleep(ASLEEP_S)
                    is_there = sleeper in chatting.serving.workers()
                    os.kill(sleeper, signal.SIGCONT)
                    rows = await stage.settle(*(room.id for room in rooms), patience_s=90.0)
                    replies = [row for row in rows if row["role"] == "assistant"]
                    took += [first_restart(room) - stopped_at for room in rooms]
                    taken = [row["takeovers"] for row in replies]
                    figure(f"{sum(taken)} takeovers of {len(replies)}, the sleeper still there: {is_there}")
                    assert taken == [1] * len(replies)
                    assert {row["status"] for row in replies} == {"complete"}
        return took

    took = asyncio.run(live_through())
    figure(f"from the stop to the restart elsewhere: {spread(took)}")
    assert max(took) <= TAKEOVER_S


def first_restart(room: Room) -> float:
    return min(one.at for one in room.screens[-1].history.heard if one.event["type"] == "restart")


class Reached(Chatting):
    """A service that reaches PostgreSQL over a tap; the test itself does not."""

    def __init__(self, place: Path, *arguments: str, direct_url: str, environ: dict[str, str]) -> None:
        self._direct_url = direct_url
        super().__init__(place, *arguments, environ=environ)

    async def _database(self) -> Any:
        return await asyncpg.connect(self._direct_url, timeout=5)


@pytest.mark.timeout(600)
def test_commits_of_unknown_outcome_are_one_message_each(
    place: Path, figure: Figure, seed: int, database_url: str
) -> None:
    """Row 17: the link breaks when COMMIT has been sent."""
    chance = random.Random(seed)
    parts = urlsplit(database_url)
    socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"

    def cut(data: bytes) -> bool:
        return is_cutting and b"COMMIT" in data and chance.randrange(CUT_ONE_IN) == 0

    async def keep_asking(room: Room, until: float) -> None:
        while time.monotonic() < until:
            await room.ask(patience_s=60.0)
            await asyncio.sleep(chance.uniform(0.2, 1.0))

    is_cutting = False

    async def live_through() -> None:
        nonlocal is_cutting
        async with tap(socket) as link:
            link.cuts_after = cut
            url = f"postgresql://{parts.username}@127.0.0.1:{link.port}{parts.path}"
            options = {"direct_url": database_url, "environ": {"PARLEY_DATABASE_URL": url}}
            chatting = await asyncio.to_thread(Reached, place, "--workers", "2", **options)  # type: ignore[arg-type]
            try:
                person, agent = await chatting.person(), await chatting.agent(tokens(20, 0.05))
                async with staged(chatting) as stage:
                    places = [(chatting, "ws"), (chatting, "ws")]
                    rooms = await open_rooms(stage, person, agent, 8, places)
                    is_cutting = True
                    until = time.monotonic() + CUTS_S * shortened(100, 10) / 100
                    await asyncio.gather(*(keep_asking(room, until) for room in rooms))
                    is_cutting = False
                    rows = await stage.settle(*(room.id for room in rooms), patience_s=90.0)
                    replies = [row for row in rows if row["role"] == "assistant"]
                    figure(f"{link.cuts} commits cut, {len(replies)} questions, {restarts(stage.screens)} restarts")
                    figure(f"refusals: {refusals(rooms)}")
                    figure(f"{sum(row['takeovers'] for row in replies)} takeovers")
                    assert {row["status"] for row in replies} == {"complete"}
            finally:
                await asyncio.to_thread(chatting.end)

    asyncio.run(live_through())


@pytest.mark.timeout(600)
def test_streams_hold_no_connection_to_postgresql(place: Path, figure: Figure) -> None:
    """Row 16: 200 streams and 20 live replies on two connections a worker."""
    small = {"PARLEY_DATABASE_POOL_SIZE": "2", "PARLEY_DATABASE_POOL_OVERFLOW": "0"}
    streams = shortened(STREAMS, 20)

    async def sample(chatting: Chatting) -> tuple[Sequence[int], Sequence[int], Sequence[float]]:
        busy, every, answers = [], [], []
        database = await chatting._database()
        async with chatting.http(await chatting.person()) as http:
            for _ in range(SAMPLES):
                found = await database.fetch("SELECT state FROM pg_stat_activity WHERE application_name = 'parley'")
                every.append(len(found))
                busy.append(sum(row["state"] != "idle" for row in found))
                began = time.monotonic()
                assert (await http.get("/chat/conversations")).status_code == 200
                answers.append(time.monotonic() - began)
                await asyncio.sleep(0.05)
        await database.close()
        return busy, every, answers

    async def live_through() -> None:
        async with running(place, "--workers", "2", environ=small) as chatting:
            person, agent = await chatting.person(), await chatting.agent(tokens(40, 0.25))
            async with staged(chatting) as stage:
                rooms = await open_rooms(stage, person, agent, max(2, streams // 10), [(chatting, "ws")])
                port, where = chatting.serving.port, [room.id for room in rooms]
                members = [Member(f"member {n}", port, where[n % len(where)], person.token) for n in range(streams)]
                await join_all(members, at_once=20)
                await asyncio.gather(*(room.ask() for room in rooms))
                busy, every, answers = await sample(chatting)
                await until_ended(members)
                await stage.settle(*where)
                await leave_all(members)
            figure(f"{streams} streams, {len(rooms)} replies: at most {max(every)} connections, ")
            figure(f"busy at {sum(map(bool, busy))} of {SAMPLES} looks; lists answered within {spread(answers)}")
            assert max(every) <= 4
            assert sum(map(bool, busy)) < SAMPLES / 2

    asyncio.run(live_through())
