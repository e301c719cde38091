"""People who connect, ask and vanish at any moment, at a steady pace: the worker stays as large as it was (row 34)."""

import asyncio
import random
import statistics
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from tests.bench.socket_load import FINAL_TEXT, LONG, MASKED, SHORT, handshake
from tests.bench.wire import request
from tests.soak.chats import shortened
from tests.soak.conftest import Figure
from tests.soak.test_memory import rss_mib
from tests.story.chatting import Chatting, Person, tokens
from tests.story.serving import HAS_PROC

CHURN_S = 3600
# A hub stays 30 s after its last viewer, a tape up to 2 min; caches of statements and ids fill.
WARM_UP_S = 180.0
VISITS_A_SECOND = 12.0
SAMPLE_S = 5.0
FLAT = 0.05
PEOPLE, ROOMS = 20, 60
LONGEST_S = 1.5  # a visit; an answer takes about 0.6 s
ENVIRON = {
    "PARLEY_LOG_LEVEL": "warning",
    "PARLEY_DATABASE_POOL_SIZE": "8",
    "PARLEY_AUTH_ACCESS_TTL_S": "86400",  # nobody comes back for another one
}
WORDS = ("Hello?", "Where is my order?", "What is that? " * 40, "ß 💥 中文 " * 20)


@dataclass
class Crowd:
    """Who visits, and what came of it."""

    port: int
    agent: str
    people: list[Person]
    rooms: list[str]
    chance: random.Random
    house: Chatting
    visits: int = 0
    answered: int = 0
    odd: list[str] = field(default_factory=list)

    async def visit(self, number: int) -> None:
        """Come in one of the ways people do, and leave at any moment."""
        person, chosen = self.people[number % len(self.people)], self.chance.random()
        room = self.rooms[number % len(self.rooms)]
        ask = {"content": self.chance.choice(WORDS), "client_id": f"churn-{number}"}
        if chosen < 0.4:
            first = handshake(room, person.token)
            then = _frame({"type": "chat", **ask, "on_busy": self.chance.choice(["queue", "interrupt"])})
        elif chosen < 0.5:
            first, then = handshake(room, person.token), b""
        elif chosen < 0.9:
            body = {"message": ask["content"], "client_id": ask["client_id"], "conversation_id": room}
            first, then = request("POST", "/chat/stream", token=person.token, body=body), b""
        else:
            first, then = request("GET", f"/chat/conversations/{room}/stream", token=person.token), b""
        if self.chance.random() < 0.1:
            first, then = first[: self.chance.randrange(len(first))], b""
        await self._live(first, then, self.chance.random() * LONGEST_S)

    async def _live(self, first: bytes, then: bytes, stays_s: float) -> None:
        self.visits += 1
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError as error:
            self.odd.append(type(error).__name__)
            return
        try:
            async with asyncio.timeout(stays_s):
                writer.write(first)
                head = await reader.readuntil(b"\r\n\r\n")
                self.answered += head.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200"))
                if head.startswith(b"HTTP/1.1 5") and b" 503" not in head[:14]:
                    self.odd.append(head[:40].decode())
                writer.write(then)
                while await reader.read(65536):
                    pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # whoever vanishes does not care
        finally:
            writer.transport.abort()

    async def renew_room(self) -> None:
        """Let one conversation go and begin another: what is said must not grow for ever."""
        place = self.chance.randrange(len(self.rooms))
        owner = self.people[0]
        await self.house.ask(owner, "DELETE", f"/chat/conversations/{self.rooms[place]}")
        self.rooms[place] = await self._open_room()

    async def fill(self) -> None:
        self.rooms = [await self._open_room() for _ in range(ROOMS)]

    async def _open_room(self) -> str:
        room = await self.house.conversation(self.people[0], self.agent)
        for person in self.people[1:]:
            await self.house.ask(
                self.people[0], "POST", f"/chat/conversations/{room}/participants", json={"user_id": person.id}
            )
        return room


async def keep_coming(crowd: Crowd, until: float) -> None:
    """Begin a visit at a steady pace, so that what is remembered of the last minutes is always as much."""
    visits = set[asyncio.Task[None]]()
    number, due = crowd.visits, time.monotonic()
    while time.monotonic() < until:
        visits.add(task := asyncio.create_task(crowd.visit(number), name=f"visit {number}"))
        task.add_done_callback(visits.discard)
        number += 1
        if number % 60 == 0:
            await crowd.renew_room()
        due = max(due + 1 / VISITS_A_SECOND, time.monotonic() - 1)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await asyncio.gather(*visits)


async def sample(crowd: Crowd, pid: int, seconds: float) -> list[float]:
    """Return the memory of the worker, again and again, while people come and go."""
    until = time.monotonic() + seconds
    coming = asyncio.create_task(keep_coming(crowd, until), name="churn")
    found = []
    while not coming.done():
        await asyncio.wait({coming}, timeout=SAMPLE_S)
        found.append(rss_mib(pid))
        if len(found) % round(60 / SAMPLE_S) == 0:
            print(f"{crowd.visits} visits: {statistics.median(found[-round(60 / SAMPLE_S) :]):.1f} MiB", flush=True)
    await coming
    return found


def _frame(command: dict[str, str]) -> bytes:
    payload = orjson.dumps(command)
    size = len(payload)
    length = bytes([MASKED | size]) if size <= SHORT else bytes([MASKED | LONG]) + struct.pack("!H", size)
    return bytes([FINAL_TEXT]) + length + bytes(4) + payload


def by_minute(found: list[float]) -> str:
    step = max(1, round(60 / SAMPLE_S))
    return " ".join(f"{statistics.median(found[n : n + step]):.1f}" for n in range(0, len(found), step))


@pytest.mark.skipif(not HAS_PROC, reason="needs /proc to see another process's memory")
@pytest.mark.timeout(0)
def test_a_worker_that_is_come_and_gone_to_stays_as_large_as_it_was(place: Path, figure: Figure, seed: int) -> None:
    churn_s = shortened(CHURN_S, 60)
    house = Chatting(place, "--workers", "1", environ=ENVIRON)

    async def live_through() -> tuple[list[float], list[float], Crowd]:
        people = [await house.person() for _ in range(PEOPLE)]
        agent = await house.agent(tokens(20, 0.02))
        crowd = Crowd(house.serving.port, agent, people, [], random.Random(seed), house)
        await crowd.fill()
        [pid] = house.serving.workers()
        warming = await sample(crowd, pid, min(WARM_UP_S, churn_s))
        found = await sample(crowd, pid, churn_s)
        assert house.serving.workers() == {pid}
        return warming, found, crowd

    try:
        warming, found, crowd = asyncio.run(live_through())
    finally:
        house.end()
    part = max(1, len(found) // 5)
    first, last = statistics.median(found[:part]), statistics.median(found[-part:])
    figure(f"{crowd.visits} visits, {crowd.answered} of them answered before they left; odd: {len(crowd.odd)}")
    figure(f"MiB, median of each minute: warm-up {by_minute(warming)} | then {by_minute(found)}")
    figure(f"first fifth {first:.1f} MiB, last fifth {last:.1f} MiB: {last / first - 1:+.1%}")
    assert crowd.odd == []
    assert "Traceback" not in house.serving.out + house.serving.err
    assert abs(last / first - 1) <= FLAT
