"""SIGHUP under 100 live replies and 500 sockets: workers are replaced, and no screen shows it."""

import asyncio
import signal
import time
from pathlib import Path

import pytest
from tests.fixtures.history import Fields
from tests.soak.chats import MANY_CALLS, Room, open_rooms, refusals, restarts, shortened, spread, unfinished
from tests.soak.conftest import Figure
from tests.story.chatting import Chatting, Stage, staged, tokens

WORKERS = 2
REPLIES, SCREENS = 100, 5
ANSWER = tokens(12, 0.4)  # shorter than a worker's grace
END_S = 60.0


async def keep_asking(room: Room, is_over: asyncio.Event, waits: list[float]) -> None:
    while not is_over.is_set():
        began = time.monotonic()
        taken = await room.ask()
        waits.append(time.monotonic() - began)
        await room.asker.until_end(str(taken.reply_id), END_S)


async def replaced(stage: Stage, rooms: list[Room], figure: Figure) -> list[Fields]:
    """Replace the workers while everybody asks; return the rows."""
    serving, is_over, waits = stage.chatting.serving, asyncio.Event(), list[float]()
    talking = [asyncio.create_task(keep_asking(room, is_over, waits)) for room in rooms]
    await asyncio.sleep(4.0)
    before, began = serving.workers(), time.monotonic()
    serving.parent.send_signal(signal.SIGHUP)
    async with asyncio.timeout(180.0):
        while f"worker {WORKERS} replaced" not in serving.err or await asyncio.to_thread(serving.workers) & before:
            await asyncio.sleep(0.2)
            for one in talking:
                if one.done():
                    one.result()
    took_s = time.monotonic() - began
    await asyncio.sleep(1.0)
    is_over.set()
    await asyncio.gather(*talking)
    rows = await stage.settle(*(room.id for room in rooms), patience_s=END_S)
    asked = sum(len(room.replies) for room in rooms)
    figure(f"{WORKERS} workers replaced in {took_s:.1f} s under {len(rooms)} rooms and {len(stage.screens)} sockets")
    figure(f"{asked} questions, refusals: {refusals(rooms)}; acknowledged after {spread(waits)}")
    figure(f"{restarts(stage.screens)} visible restarts, {sum(row['takeovers'] for row in rows)} takeovers")
    figure(f"replies that were not completed: {await unfinished(stage.chatting)}")
    return list(rows)


@pytest.mark.timeout(900)
def test_workers_are_replaced_and_no_screen_shows_it(place: Path, figure: Figure) -> None:
    chatting = Chatting(place, "--workers", str(WORKERS), environ=MANY_CALLS)

    async def live_through() -> None:
        person, agent = await chatting.person(), await chatting.agent(ANSWER)
        async with staged(chatting) as stage:
            places = [(chatting, "ws")] * SCREENS
            rooms = await open_rooms(stage, person, agent, shortened(REPLIES, 4), places)
            rows = await replaced(stage, rooms, figure)
            assert all(row["status"] == "complete" for row in rows)
            assert restarts(stage.screens) == 0
            assert not any(screen.history.broke for screen in stage.screens)

    try:
        asyncio.run(live_through())
    finally:
        chatting.end()
