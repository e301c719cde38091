"""Rows of the failure matrix that come from the machine: a clock that is wrong, and a disk that is full."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.fixtures.history import Fields
from tests.soak.chats import Room, open_rooms, refusals, restarts, shortened, spread, workers_back
from tests.soak.conftest import Figure
from tests.story.chatting import Chatting, Person, Stage, staged, tokens

ROOMS = 8
TAKEOVER_S = 5.0
FULL_S = 15.0
DISK = "600m"
# In the place of a module that every worker imports: the first one that comes has a clock of its own.
SKEWED = """
import datetime, os, pathlib, sys
here = pathlib.Path(__file__).parent
if "parley.cli.worker" in " ".join(sys.argv):
    try:
        os.close(os.open(here / f"skewed-{os.getppid()}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        pass
    else:
        (here / "pid").write_text(str(os.getpid()))
        from parley.core.clock import SystemClock
        right = SystemClock.now
        SystemClock.now = lambda self: right(self) + datetime.timedelta(seconds=SKEW_S)
sys.path.remove(str(here))
del sys.modules["uvloop"]
import uvloop
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("skew_s", [600, -600])
def test_a_worker_whose_clock_is_wrong_takes_nothing_over(place: Path, figure: Figure, skew_s: int) -> None:
    """Row 32: owners compare counters, not clocks; nobody is taken over but the dead."""
    (place / "gate").mkdir()
    (place / "gate" / "uvloop.py").write_text(SKEWED.replace("SKEW_S", str(skew_s)))

    async def live_through(chatting: Chatting) -> None:
        skewed = int((place / "gate" / "pid").read_text())
        [right] = chatting.serving.workers() - {skewed}
        async with staged(chatting) as stage:
            doors = [await stage.door_to(pid) for pid in (skewed, right)]
            people = [await person_of(stage, door.url) for door in doors]
            rooms: list[Room] = []
            for person, door in zip(people, doors, strict=True):
                rooms += await rooms_behind(stage, door.url, person, shortened(ROOMS, 2))
            await asyncio.gather(*(room.ask() for room in rooms))
            await asyncio.sleep(4.0)  # longer than a dead worker would be given
            rows = await chatting.rows(*(room.id for room in rooms))
            assert not any(row["takeovers"] for row in rows)
            os.kill(right, signal.SIGKILL)
            killed_at = time.monotonic()
            took = await taken_over(chatting, rooms[len(rooms) // 2 :], killed_at)
            figure(f"one clock {skew_s} s off: taken over after {spread(took)}")
            assert max(took) <= TAKEOVER_S
            doors[1].slam()

    environ = {"PYTHONPATH": str(place / "gate"), "PARLEY_MODEL_NAME": tokens(80, 0.1)}
    chatting = Chatting(place, "--workers", "2", environ=environ)
    try:
        asyncio.run(live_through(chatting))
    finally:
        chatting.end()


async def rooms_behind(stage: Stage, url: str, person: Person, count: int) -> list[Room]:
    """Make conversations at one worker."""
    made = []
    async with stage.chatting.http(person, url) as http:
        for _ in range(count):
            conversation = (await http.post("/chat/conversations", json={})).json()["id"]
            made.append(Room(conversation, [await stage.tab(person, conversation, url)]))
    return made


async def person_of(stage: Stage, url: str) -> Person:
    """Register at one worker: another clock may not believe its tokens."""
    async with stage.chatting.http(url=url) as http:
        sent = {"email": f"{time.monotonic_ns()}@shop.example", "password": "correct horse battery", "name": "Anna"}
        body = (await http.post("/auth/register", json=sent)).json()
    return Person(body["user"]["id"], body["access_token"])


async def taken_over(chatting: Chatting, rooms: Sequence[Room], since: float) -> list[float]:
    """Return when somebody else had each reply, as the rows say."""
    asked = "SELECT id::text FROM messages WHERE takeovers > 0"
    database, seen = await chatting._database(), dict[str, float]()
    async with asyncio.timeout(30.0):
        while not seen.keys() >= {reply for room in rooms for reply in room.replies}:
            for row in await database.fetch(asked):
                seen.setdefault(row["id"], time.monotonic() - since)
            await asyncio.sleep(0.05)
    await database.close()
    return sorted(seen.values())


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """Put a disk of its own there, where the machine allows that."""
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=711", "tmpfs", str(path)], check=False)
    if made.returncode:
        pytest.skip("only a superuser may mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def fill(ballast: Path) -> None:
    """Write until nothing fits any more."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1_048_576, 4096):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


async def live_on_a_full_disk(chatting: Chatting, ballast: Path, figure: Figure) -> list[Fields]:
    """Ask while nothing can be written; return the rows at the end."""
    person = await chatting.person()
    short, long = await chatting.agent(tokens(20, 0.1)), await chatting.agent(tokens(120, 0.1))
    async with staged(chatting) as stage:
        talkers = await open_rooms(stage, person, short, shortened(ROOMS, 2), [(chatting, "ws")] * 2)
        listeners = await open_rooms(stage, person, long, shortened(ROOMS, 2), [(chatting, "ws")] * 2)
        await asyncio.gather(*(room.ask() for room in listeners))
        await asyncio.to_thread(fill, ballast)
        is_full = True

        async def keep_asking(room: Room) -> None:
            while is_full:
                await room.ask("x" * 20_000, patience_s=120.0)

        asking = [asyncio.create_task(keep_asking(room)) for room in talkers]
        read, until = list[int](), time.monotonic() + FULL_S
        async with chatting.http(person) as http:
            while time.monotonic() < until:
                read.append((await http.get(f"/chat/conversations/{listeners[0].id}/messages")).status_code)
                await asyncio.sleep(0.2)
        ballast.unlink()
        is_full = False
        await asyncio.gather(*asking)
        rooms = [*talkers, *listeners]
        rows = await stage.settle(*(room.id for room in rooms), patience_s=120.0)
        figure(f"{sum(len(room.replies) for room in rooms)} questions, refusals: {refusals(rooms)}")
        figure(f"reads answered {sorted((status, read.count(status)) for status in set(read))}")
        figure(f"{restarts(stage.screens)} restarts, {sum(row['takeovers'] for row in rows)} takeovers")
        assert set(read) <= {200, 503}
        figure(f"all workers there after {await workers_back(chatting.serving, 2):.1f} s")
    return list(rows)


@pytest.mark.timeout(600)
def test_a_full_disk_loses_nothing(place: Path, figure: Figure) -> None:
    """Row 18: a clear 503 for what cannot be stored, and all of it healed when there is room."""
    with small_disk(place / "data"):
        chatting = Chatting(place, "--workers", "2")
        try:
            rows = asyncio.run(live_on_a_full_disk(chatting, place / "data" / "ballast", figure))
        finally:
            chatting.end()
    assert {row["status"] for row in rows} == {"complete"}
