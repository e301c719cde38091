"""`/metrics` of a real service: one truth from any worker, also after one was killed, or lost its loop."""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.fixtures.metrics import Sample, Scrape
from tests.story.chatting import SLOW, Chatting, Person, Stage, staged, tokens
from tests.story.serving import wait_until

WORKERS, STUCK_S, BLOCKS = 2, 1.5, 3
BREATH_S = 0.6  # two blocks without a beat between them would be a loop that is lost
TALKS, SPOKEN = 6, 30
SETTLED_S = 2.2  # two readings of states, and the row of the last request
# What goes on without anybody asking, and the scrape itself.
RESTLESS = (
    "app_resident_",
    "app_tasks",
    "event_loop_lag_",
    "event_loop_blocked",
    "redis_pubsub_",
    "db_pool_connections",
)


@pytest.fixture(scope="module")
def frail(module_place: Path) -> Iterator[Chatting]:
    """A service whose workers are ended here; a lost loop is given up soon."""
    running = Chatting(module_place, "--workers", str(WORKERS), environ={"PARLEY_LOOP_STUCK_S": str(STUCK_S)})
    yield running
    running.end()


async def scrape(chatting: Chatting, url: str | None = None) -> Scrape:
    """Read over a connection of its own: the kernel chooses the worker."""
    async with chatting.http(url=url) as http:
        answer = await http.get("/metrics")
    assert answer.status_code == 200, answer.text
    return Scrape(answer.text)


def at_rest(found: Scrape) -> Mapping[Sample, float]:
    return {
        (name, labels): value
        for (name, labels), value in found.samples.items()
        if not name.startswith(RESTLESS) and ("handler", "/metrics") not in labels
    }


async def speak(stage: Stage, person: Person, agent: str, number: int) -> None:
    body = {"message": f"Hello {number}", "conversation_id": await stage.chatting.conversation(person, agent)}
    answer = await stage.chatting.ask(person, "POST", "/chat/send", json=body)
    assert answer.status_code == 200, answer.text


async def test_ten_scrapes_agree_and_never_went_back(stage: Stage, anna: Person) -> None:
    """Four workers: while they answer every count only grows, and when they have, all tell the same."""
    agent = await stage.chatting.agent(tokens(SPOKEN))
    before = await scrape(stage.chatting)
    talking = asyncio.gather(*(speak(stage, anna, agent, number) for number in range(TALKS)))
    seen = [before]
    while not talking.done():
        seen.append(await scrape(stage.chatting))
        await asyncio.sleep(0.05)
    await talking
    await asyncio.sleep(SETTLED_S)
    ten = [await scrape(stage.chatting) for _ in range(10)]

    for earlier, later in zip(seen, [*seen[1:], ten[0]], strict=True):
        fallen = {sample for sample, value in earlier.counters.items() if later.samples.get(sample, -1) < value}
        assert not fallen
    first = at_rest(ten[0])
    for other in ten[1:]:
        assert at_rest(other) == first
    after = ten[0]
    assert after["app_workers"] == 4
    assert after["chat_integrity_mismatches_total"] == 0
    for name, count in {
        "chat_turns_total": TALKS,
        "chat_time_to_first_token_seconds_count": TALKS,
        "llm_requests_total": TALKS,
        "llm_time_to_first_token_seconds_count": TALKS,
    }.items():
        assert after[name] - before[name] == count, name
    told = after.sum("llm_tokens_total", kind="output") - before.sum("llm_tokens_total", kind="output")
    assert told == TALKS * SPOKEN
    gaps = after["chat_inter_token_seconds_count"] - before["chat_inter_token_seconds_count"]
    assert TALKS * SPOKEN / 4 < gaps < TALKS * SPOKEN


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with the Debian package prometheus")
async def test_promtool_has_nothing_to_say(stage: Stage) -> None:
    found = await scrape(stage.chatting)
    told = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=found.text, capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


async def test_a_killed_worker_stays_in_the_sums_and_leaves_the_states(frail: Chatting, at_leisure: None) -> None:
    async with staged(frail) as stage:
        anna = await frail.person()
        agent = await frail.agent(tokens(5, 0.0))
        await asyncio.gather(*(speak(stage, anna, agent, number) for number in range(TALKS)))
        await asyncio.sleep(SETTLED_S)
        victim, other = random.sample(sorted(frail.serving.workers()), 2)
        victims_door, other_door = await stage.door_to(victim), await stage.door_to(other)
        conversation = await frail.conversation(anna)
        await stage.tab(anna, conversation, victims_door.url)
        before = await scrape(frail)
        assert (before["chat_ws_connections"], before["app_workers"]) == (1, WORKERS)
        os.kill(victim, signal.SIGKILL)
        async with asyncio.timeout(SLOW):
            while list(_counts(frail).glob(f"*_{victim}.db")):
                await scrape(frail, other_door.url)
            while (after := await scrape(frail))["app_workers"] != WORKERS:
                await asyncio.sleep(0.1)

    assert after["chat_ws_connections"] <= 1  # the tab may be back
    for name in (
        "chat_turns_total",
        "chat_turn_duration_seconds_count",
        "llm_tokens_total",
        "chat_turn_duration_seconds_sum",
    ):
        assert after[name] == pytest.approx(before[name]), name
    assert not {s for s, value in before.counters.items() if after.samples.get(s, -1) < value - 1e-9}


async def test_a_held_loop_is_named_within_a_second_and_its_worker_replaced(frail: Chatting, at_leisure: None) -> None:
    """The others serve on, and nobody has to notice it but the watchdog."""
    wait_until(lambda: len(frail.serving.workers()) == WORKERS)
    before, earlier = await scrape(frail), len(_lines(frail, "loop_blocked"))
    async with staged(frail) as stage:
        held = random.choice(sorted(frail.serving.workers()))
        door = await stage.door_to(held)
        async with frail.http(url=door.url) as http:
            await http.get("/health/live")
            named_s = [await _block(frail, http, 0.9) for _ in range(BLOCKS)]
            holding = asyncio.create_task(http.post("/debug/block?seconds=60"))
            began = time.monotonic()
            while held in frail.serving.workers():
                assert time.monotonic() - began < 20
                await asyncio.sleep(0.05)
            ended_s = time.monotonic() - began
            [end] = await asyncio.gather(holding, return_exceptions=True)
    wait_until(lambda: len(frail.serving.workers()) == WORKERS)
    print(f"named after {min(named_s):.2f} s, ended after {ended_s:.2f} s, where {STUCK_S:g} s were set")

    assert isinstance(end, Exception)
    named = _lines(frail, "loop_blocked")
    ours = [line for line in named if "metrics_router.py:" in line["frame"] and line["frame"].endswith(" block")]
    assert len(ours) == BLOCKS + 1
    assert min(named_s) < 1.0  # of a few: the machine has other work to do
    assert STUCK_S - 0.5 < ended_s < STUCK_S + 8
    assert any(line["thread"] == "MainThread" for line in _lines(frail, "loop_lost"))
    assert "(exit code 70)" in frail.serving.err
    after = await scrape(frail)
    assert after["event_loop_blocked_total"] - before["event_loop_blocked_total"] == len(named) - earlier


async def _block(chatting: Chatting, http: httpx.AsyncClient, seconds: float) -> float:
    """Hold a loop; return after how long it was named."""
    before, began = len(_lines(chatting, "loop_blocked")), time.monotonic()
    holding = asyncio.create_task(http.post(f"/debug/block?seconds={seconds}"))
    while len(_lines(chatting, "loop_blocked")) == before:
        assert time.monotonic() - began < 10
        assert not (holding.done() and holding.exception()), "its worker was ended"
        await asyncio.sleep(0.01)
    took_s = time.monotonic() - began
    assert (await holding).status_code == 204
    await asyncio.sleep(BREATH_S)
    return took_s


def _counts(chatting: Chatting) -> Path:
    [folder] = (chatting.serving.data / "run").iterdir()
    return folder


def _lines(chatting: Chatting, event: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in chatting.serving.out.splitlines() if f'"{event}"' in line]
