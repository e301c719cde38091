"""Many conversations at once, their screens on the workers a test names, and the figures of what they were told."""

import asyncio
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.soak.load import ready_everywhere
from tests.story.chatting import Chatting, Person, Screen, Stage, gaps, percentile
from tests.story.serving import Serving

from parley.client import ParleyError
from parley.client.commanding import Taken
from parley.client.errors import CommandRefused

PART = "PARLEY_SOAK_PART"
MANY_CALLS = {"PARLEY_MODEL_CONCURRENCY": "1000"}  # also of a worker alone, which allows itself a share of it
BACK_S = 60.0
AGAIN_S = 0.3


def shortened(count: int, least: int = 1) -> int:
    """Return a count, or as much of it as the environment asks for."""
    return max(least, round(count * float(os.environ.get(PART, "1"))))


def spread(values: Sequence[float], unit: str = "s", factor: float = 1.0) -> str:
    """Return how values lie."""
    if not values:
        return "none"
    at = [statistics.median(values), *(percentile(values, part) for part in (0.9, 0.99)), max(values)]
    named = zip(("p50", "p90", "p99", "max"), at, strict=True)
    return ", ".join(f"{name} {value * factor:.3g}" for name, value in named) + f" {unit} of {len(values)}"


class Entrance(Protocol):
    """A door, or the service itself."""

    @property
    def url(self) -> str: ...


Place = tuple[Entrance, str]
Places = Sequence[Place] | Callable[[int], Sequence[Place]]


@dataclass
class Room:
    """One conversation and its screens. The first one asks."""

    id: str
    screens: list[Screen]
    replies: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Why questions were refused, or not answered, before they were taken."""

    @property
    def asker(self) -> Screen:
        return self.screens[0]

    async def ask(self, content: str = "Hello?", *, patience_s: float = 90.0) -> Taken:
        """Ask until it is acknowledged, under one id, as a client does."""
        client_id = f"{self.asker.history.name}-{time.monotonic_ns()}"
        async with asyncio.timeout(patience_s):
            while True:
                try:
                    taken = await self.asker.send(content, client_id=client_id)
                except ParleyError as error:
                    is_final = isinstance(error, CommandRefused) and not error.is_retryable
                    if (is_final and error.code != "queue_full") or self.asker.is_over:
                        raise
                    self.refused.append(error.code)
                else:
                    self.replies.append(str(taken.reply_id))
                    return taken
                await asyncio.sleep(AGAIN_S)


def refusals(rooms: Sequence[Room]) -> str:
    """Return how often questions were refused, and why."""
    counted = Counter(code for room in rooms for code in room.refused)
    return ", ".join(f"{times} times {code}" for code, times in counted.most_common()) or "none"


async def open_rooms(stage: Stage, person: Person, agent: str, count: int, places: Places) -> list[Room]:
    """Make conversations with these screens; each place is a door and `ws` or `sse`, the first one asks."""
    at_once = asyncio.Semaphore(10)

    async def open_one(number: int) -> Room:
        async with at_once:
            conversation = await stage.chatting.conversation(person, agent)
            screens = []
            for door, kind in places(number) if callable(places) else places:
                show = stage.tab if kind == "ws" else stage.tab_sse
                screens.append(await show(person, conversation, door.url))
            return Room(conversation, screens)

    return list(await asyncio.gather(*(open_one(number) for number in range(count))))


async def workers_back(serving: Serving, workers: int) -> float:
    """Wait until all workers serve again."""
    began = time.monotonic()
    async with asyncio.timeout(BACK_S):
        while len(await asyncio.to_thread(serving.workers)) < workers:
            await asyncio.sleep(0.05)
    await ready_everywhere(serving.port, BACK_S)
    return time.monotonic() - began


def pace_between(screens: Sequence[Screen], since: float, until: float) -> list[float]:
    """Return the gaps between tokens that came in a span of time, of every screen by itself."""
    found: list[float] = []
    for screen in screens:
        found += gaps([at for at in screen.history.token_times() if since <= at < until])
    return found


async def unfinished(chatting: Chatting) -> str:
    """Return how many replies ended otherwise than complete, and why."""
    database = await chatting._database()
    rows = await database.fetch("SELECT status, error_code, error_message FROM messages WHERE status <> 'complete'")
    await database.close()
    return ", ".join(f"{times} times {row}" for row, times in Counter(map(tuple, rows)).items()) or "none"


def restarts(screens: Sequence[Screen]) -> int:
    return sum(len(screen.history.of_type("restart")) for screen in screens)
