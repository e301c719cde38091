"""What nginx costs in front, how long idle viewers stay, and two instances replaced one after the other under load."""

import asyncio
import json
import signal
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from tests.ops.front import SHARED, Fleet, needs_nginx, nginx
from tests.soak.chats import MANY_CALLS, Room, open_rooms, refusals, restarts, shortened, spread, unfinished
from tests.soak.conftest import Figure
from tests.story.chatting import Chatting, Person, gaps, staged, tokens

pytestmark = needs_nginx
PAIRS, AT_ONCE = 20, 8
ANSWER = tokens(100, 0.02)
IDLE_S, SOCKETS, STREAMS = 600.0, 200, 50
ROOMS, SCREENS = 40, 3
END_S = 60.0


async def timed(url: str, person: Person, agent: str) -> tuple[float, list[float]]:
    """Ask by POST; return the seconds to the first token, and those between tokens."""
    async with httpx.AsyncClient(base_url=url, headers=person.headers, timeout=60) as http:
        made = (await http.post("/chat/conversations", json={"agent": agent})).json()["id"]
        times, began = list[float](), time.monotonic()
        async with http.stream("POST", "/chat/stream", json={"message": "Hello?", "conversation_id": made}) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {") and json.loads(line[6:])["type"] == "token":
                    times.append(time.monotonic())
        return times[0] - began, gaps(times)


@asynccontextmanager
async def fronted(place: Path) -> AsyncIterator[tuple[Chatting, str]]:
    """A service with two workers, and the way to it through nginx."""
    chatting = Chatting(place, "--workers", "2", environ={**SHARED, **MANY_CALLS})
    try:
        with nginx(chatting.serving.port) as front:
            yield chatting, front.url
    finally:
        await asyncio.to_thread(chatting.end)


@pytest.mark.timeout(900)
async def test_first_token_and_pace_with_and_without(place: Path, figure: Figure, at_leisure: None) -> None:
    async with fronted(place) as (chatting, url):
        person, agent = await chatting.person(), await chatting.agent(ANSWER)
        first: dict[str, list[float]] = {chatting.url: [], url: []}
        between: dict[str, list[float]] = {chatting.url: [], url: []}
        medians: list[float] = []
        for number in range(shortened(PAIRS, 2)):
            of_round: dict[str, float] = {}
            for way in (url, chatting.url) if number % 2 else (chatting.url, url):
                found = await asyncio.gather(*(timed(way, person, agent) for _ in range(AT_ONCE)))
                first[way] += [waited for waited, _ in found]
                between[way] += [gap for _, pauses in found for gap in pauses]
                of_round[way] = statistics.median(waited for waited, _ in found)
            medians.append(of_round[url] / of_round[chatting.url])
        for name, way in (("without nginx", chatting.url), ("with nginx", url)):
            figure(f"{name}: first token {spread(first[way], 'ms', 1000)}; between {spread(between[way], 'ms', 1000)}")
        figure(f"paired medians of the first token, with / without: {statistics.median(medians):.2f}")
        assert statistics.median(between[url]) < 1.5 * statistics.median(between[chatting.url])


@pytest.mark.timeout(900)
async def test_idle_viewers_stay(place: Path, figure: Figure, at_leisure: None) -> None:
    async with fronted(place) as (chatting, url):
        person, agent = await chatting.person(), await chatting.agent(tokens(5))
        async with staged(chatting) as stage:
            conversation = await chatting.conversation(person, agent)
            opening = [stage.tab(person, conversation, url) for _ in range(shortened(SOCKETS, 5))]
            opening += [stage.tab_sse(person, conversation, url) for _ in range(shortened(STREAMS, 5))]
            screens = [await one for one in opening]
            idle_s = max(5.0, shortened(round(IDLE_S)))
            await asyncio.sleep(idle_s)
            reply = str((await screens[0].send("Still here?")).reply_id)
            for screen in screens:
                await screen.until_end(reply)
            came_back = sum(len(screen.history.of_type("client_reconnecting")) for screen in screens)
            figure(f"{len(screens)} viewers idle for {idle_s:.0f} s through nginx: {came_back} had to come back")
            assert came_back == 0
            await stage.settle(conversation)


async def keep_asking(room: Room, is_over: asyncio.Event, waits: list[float]) -> None:
    while not is_over.is_set():
        began = time.monotonic()
        taken = await room.ask()
        waits.append(time.monotonic() - began)
        await room.asker.until_end(str(taken.reply_id), END_S)


async def replaced(fleet: Fleet) -> None:
    """Replace the instances as a deploy does: the next one when this one is ready."""
    for number, old in enumerate(list(fleet.instances)):
        old.parent.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(old.parent.wait, 60) == 0
        fleet.renew(number)
        await asyncio.to_thread(fleet.instances[number].wait_ready)


@pytest.mark.timeout(900)
async def test_two_instances_are_replaced_under_load(
    place: Path, database_url: str, redis_url: str, figure: Figure, at_leisure: None
) -> None:
    """0 lost, 0 doubled: every history is checked, as is every question that was acknowledged."""
    fleet = await asyncio.to_thread(lambda: Fleet(place, database_url, redis_url, instances=2, workers=1, **MANY_CALLS))
    try:
        with nginx(*(instance.port for instance in fleet.instances)) as front:
            fleet.front = front
            person, agent = await fleet.person(), await fleet.agent(tokens(60, 0.05))
            async with staged(fleet) as stage:
                places = [(fleet, "ws"), (fleet, "sse"), (fleet, "ws")][:SCREENS]
                rooms = await open_rooms(stage, person, agent, shortened(ROOMS, 4), places)
                is_over, waits = asyncio.Event(), list[float]()
                talking = [asyncio.create_task(keep_asking(room, is_over, waits)) for room in rooms]
                await asyncio.sleep(2.0)
                began = time.monotonic()
                await replaced(fleet)
                took_s = time.monotonic() - began
                await asyncio.sleep(1.0)
                is_over.set()
                await asyncio.gather(*talking)
                rows = await stage.settle(*(room.id for room in rooms), patience_s=END_S)
                figure(f"2 instances replaced in {took_s:.1f} s under {len(rooms)} rooms, {len(stage.screens)} viewers")
                figure(f"{sum(len(room.replies) for room in rooms)} questions, refusals: {refusals(rooms)}")
                figure(f"acknowledged after {spread(waits)}; {restarts(stage.screens)} visible restarts")
                figure(f"replies that were not completed: {await unfinished(fleet)}")
                assert all(row["status"] == "complete" for row in rows)
                assert not any(screen.history.broke for screen in stage.screens)
    finally:
        await asyncio.to_thread(fleet.end)
