"""What becomes of answers under way when a worker, Redis or PostgreSQL goes away, and when all workers are replaced.

Readers sit on other workers, every one keeps a history, and each is checked against the rows. The long counts are
in tests/soak.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
import redis.asyncio
from tests.story.chatting import Chatting, Person, Screen, Stage, gaps, percentile, said, staged, tokens
from tests.story.serving import is_alive, wait_until

WORKERS = 2
KILLS, TAKEN_OVER_S = 1, 5.0
PAUSED_S, FINAL_S = 5.0, 3.0
GRACEFUL_S = 6.0
SHORT, LONG = 50, 450  # fifty a second: far less, and far more


@pytest.fixture(scope="module")
def chatting(module_place: Path) -> Iterator[Chatting]:
    """One service for the whole module; what a test kills has come back before the next."""
    running = Chatting(module_place, "--workers", str(WORKERS))
    yield running
    running.end()


@pytest_asyncio.fixture
async def stage(chatting: Chatting, at_leisure: None) -> AsyncIterator[Stage]:
    """Hold what one test opens, once all that was killed before is back."""
    wait_until(lambda: len(chatting.serving.workers()) == WORKERS)
    await everybody_answers(chatting)
    async with staged(chatting) as made:
        yield made


async def everybody_answers(chatting: Chatting) -> None:
    """Wait until each worker is ready, also the one that was started last."""
    async with staged(chatting) as stage:
        for pid in sorted(chatting.serving.workers()):
            way = await stage.door_to(pid)
            async with chatting.http(url=way.url) as http, asyncio.timeout(30):
                while (await http.get("/health/ready")).status_code != 200:
                    await asyncio.sleep(0.1)


@contextmanager
def held_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def around(
    stage: Stage, person: Person, model: str, *, readers_elsewhere: bool = True
) -> tuple[str, int, Screen, list[Screen]]:
    """Return a conversation, a worker, a tab on it that will write there, and readers on all others, on both ways."""
    conversation = await stage.chatting.conversation(person, await stage.chatting.agent(model))
    writer, *others = sorted(stage.chatting.serving.workers(), key=lambda _: random.random())
    here = await stage.door(lambda pid: pid == writer or not is_alive(writer))
    tab = await stage.tab(person, conversation, here.url)
    readers: list[Screen] = []
    for pid in others if readers_elsewhere else ():
        there = await stage.door(lambda worker, pid=pid: worker == pid)  # type: ignore[misc]
        readers.append(await stage.tab(person, conversation, there.url))
        readers.append(await stage.tab_sse(person, conversation, there.url))
    return conversation, writer, tab, readers


async def test_the_answers_of_a_killed_worker_are_taken_over(stage: Stage, anna: Person) -> None:
    """A visible restart within five seconds of the kill, then the whole answer: P4."""
    took_s = []
    for _ in range(KILLS):
        await everybody_answers(stage.chatting)
        _, writer, tab, readers = await around(stage, anna, tokens(120))
        reply = str((await tab.send("Hello?")).reply_id)
        await readers[0].until_text(random.randrange(10, 150))
        os.kill(writer, signal.SIGKILL)
        killed_at = time.monotonic()
        for reader in readers:
            await reader.until(lambda history: history.of_type("restart", "complete"))
        first = min(heard.at for heard in readers[0].history.heard if heard.event["type"] in {"restart", "complete"})
        took_s.append(first - killed_at)
        for screen in (tab, *readers):
            assert (await screen.until_end(reply))["status"] == "complete"
        rows = await stage.settle(*{screen.history.conversation_id for screen in stage.screens})
        [row] = [row for row in rows if row["id"] == reply]
        assert (row["content"], row["attempt"], row["takeovers"]) == (said(120), 2, 1)
        wait_until(lambda: len(stage.chatting.serving.workers()) == WORKERS)
    print("taken over after " + ", ".join(f"{took:.2f} s" for took in took_s))
    assert max(took_s) <= TAKEN_OVER_S


async def test_a_stop_that_its_worker_did_not_live_to_obey_is_obeyed(stage: Stage, anna: Person) -> None:
    conversation, writer, tab, readers = await around(stage, anna, tokens(0))
    reply = str((await tab.send("Tell me everything")).reply_id)
    await readers[0].until_text(60)
    os.kill(writer, signal.SIGKILL)
    await readers[0].socket.stop(reply)
    assert (await readers[1].until_end(reply))["status"] == "stopped"
    await stage.settle(conversation)


@asynccontextmanager
async def redis_of(chatting: Chatting) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(chatting.serving.told()["redis_url"])
    try:
        yield client
    finally:
        await client.aclose()


async def test_redis_is_flushed_in_mid_answer(stage: Stage, anna: Person) -> None:
    """Readers elsewhere go on, and one who comes to a worker that knows nothing yet is given all of it."""
    conversation, _, tab, readers = await around(stage, anna, tokens(150))
    other, writer, second, _ = await around(stage, anna, tokens(350), readers_elsewhere=False)
    reply = str((await tab.send("Hello?")).reply_id)
    alone = str((await second.send("Is anybody here?")).reply_id)
    async with redis_of(stage.chatting) as client:
        for length in (60, 200, 350):
            await readers[0].until_text(length)
            await client.flushall()
    elsewhere = await stage.door(lambda pid: pid != writer)
    late = await stage.tab(anna, other, elsewhere.url)
    assert second.history.end_of(alone) is None
    told = [(screen, reply, 150) for screen in (tab, *readers)]
    for screen, of, count in (*told, (second, alone, 350), (late, alone, 350)):
        await screen.until_end(of)
        assert screen.history.text(of) == said(count)
        assert not screen.history.of_type("restart")
    await stage.settle(conversation, other)


async def test_the_subscriptions_are_cut_again_and_again_in_mid_answer(stage: Stage, anna: Person) -> None:
    """What was published meanwhile is read: pub/sub is a hint."""
    conversation, _, tab, readers = await around(stage, anna, tokens(150))
    reply = str((await tab.send("Hello?")).reply_id)
    cuts = 0
    async with redis_of(stage.chatting) as client:
        while tab.history.end_of(reply) is None:
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
            cuts += 1
            await asyncio.sleep(0.2)
    for reader in readers:
        await reader.until_end(reply)
        assert reader.history.text(reply) == said(150)
    print(f"{cuts} cuts; told in {len(readers[0].history.of_type('token'))} pieces")
    await stage.settle(conversation)


async def test_redis_stands_still_in_mid_answer(stage: Stage, anna: Person) -> None:
    """Viewers of the writing worker keep their pace; the others get the final form soon after the end: P8."""
    conversation, _, tab, readers = await around(stage, anna, tokens(100))
    other, _, second, far = await around(stage, anna, tokens(400))
    with held_still(stage.chatting.serving.engine("valkey-server")):
        began = time.monotonic()
        reply = str((await tab.send("Hello?")).reply_id)
        long = str((await second.send("Tell me more")).reply_id)
        await tab.until_end(reply)
        ended_at = tab.history.heard[-1].at
        for reader in readers:
            await reader.until_end(reply)
        final_s = max(reader.history.heard[-1].at for reader in readers) - ended_at
        await asyncio.sleep(max(PAUSED_S - (time.monotonic() - began), 0.0))
        pace = gaps([at for at in second.history.token_times(long) if at < began + PAUSED_S])
    figures = ", ".join(f"p{part * 100:.0f} {percentile(pace, part) * 1000:.0f} ms" for part in (0.5, 0.9, 0.99))
    print(f"Redis stands still: gaps {figures}; final form elsewhere after {final_s:.2f} s")
    assert final_s <= FINAL_S
    assert percentile(pace, 0.9) < 0.25
    for screen in (second, *far):
        await screen.until_end(long)
        assert screen.history.text(long) == said(400)
    await stage.settle(conversation, other)


async def test_postgresql_is_killed_in_mid_answer(stage: Stage, anna: Person) -> None:
    """Streams go on, the end is stored when it is back, a question asked meanwhile is stored once: P12."""
    conversation, _, tab, readers = await around(stage, anna, tokens(150))
    other, _, second, far = await around(stage, anna, tokens(40))
    reply = str((await tab.send("Hello?")).reply_id)
    short = str((await second.send("And shortly?")).reply_id)
    await far[0].until_text(20, short)
    await readers[0].until_text(20, reply)
    os.kill(stage.chatting.serving.engine("bin/postgres"), signal.SIGKILL)
    killed_at = time.monotonic()
    third = await ask_until_taken(stage, anna, tab.history.conversation_id)
    for screen in (tab, *readers):
        await screen.until_end(reply)
        assert not screen.history.of_type("restart")
        pace = gaps([at for at in screen.history.token_times(reply) if killed_at - 0.2 < at < killed_at + 2.0])
        assert pace, "nothing came while PostgreSQL was away"
        assert percentile(pace, 0.9) < 0.25
    for screen in (second, *far):
        await screen.until_end(short)
    await tab.until_end(third)
    rows = await stage.settle(conversation, other)
    assert [row["content"] for row in rows if row["id"] in {reply, short}].count(said(150)) == 1
    assert {row["takeovers"] for row in rows} == {0}
    assert sum(row["client_id"] == "meanwhile" for row in rows) == 1


async def ask_until_taken(stage: Stage, person: Person, conversation: str) -> str:
    """Ask under one id until it is acknowledged; meanwhile nothing but 503 is an answer."""
    body = {"content": "Are you there?", "client_id": "meanwhile"}
    refused = 0
    while True:
        answer = await stage.chatting.ask(person, "POST", f"/chat/conversations/{conversation}/messages", json=body)
        if answer.status_code in {200, 202}:
            print(f"asked {refused + 1} times while PostgreSQL was away")
            return str(answer.json()["reply"]["id"])
        assert answer.status_code == 503, answer.text
        assert "retry-after" in answer.headers
        refused += 1
        await asyncio.sleep(0.2)


async def test_all_workers_are_replaced_under_live_answers(stage: Stage, anna: Person) -> None:
    """SIGHUP with ten replies and twenty sockets: nothing is lost, torn or refused: P7."""
    agent = await stage.chatting.agent(tokens(250, 0.03))
    conversations = [await stage.chatting.conversation(anna, agent) for _ in range(10)]
    tabs = [(await stage.tab(anna, where), await stage.tab_sse(anna, where)) for where in conversations]
    replies = [str((await tab.send("Hello?")).reply_id) for tab, _ in tabs]
    serving = stage.chatting.serving
    before, told = serving.workers(), len(serving.err)
    await tabs[-1][1].until_text(20)
    serving.parent.send_signal(signal.SIGHUP)
    for pair, reply in zip(tabs, replies, strict=True):
        for screen in pair:
            assert (await screen.until_end(reply, 60))["status"] == "complete"
    while serving.err[told:].count(" replaced") < WORKERS:
        await asyncio.sleep(0.1)
    assert not serving.workers() & before
    restarts = sum(len(screen.history.of_type("restart")) for pair in tabs for screen in pair)
    returns = sum(len(screen.history.of_type("client_reconnecting")) for pair in tabs for screen in pair)
    print(f"SIGHUP: {restarts} visible restarts, {returns} times a screen came back")
    assert restarts == 0  # they are shorter than the time they are given
    await stage.settle(*conversations)


async def test_a_service_that_is_stopped_and_started_again_goes_on(place: Path, at_leisure: None) -> None:
    """SIGTERM: a short answer is finished, a long one is given back and begun anew by the next service."""
    chatting = Chatting(place, "--workers", "1", environ={"PARLEY_GRACEFUL_S": str(GRACEFUL_S)})
    try:
        async with staged(chatting) as stage:
            anna = await chatting.person()
            way = await stage.door(lambda _: True)
            conversations = [
                await chatting.conversation(anna, await chatting.agent(tokens(count))) for count in (SHORT, LONG)
            ]
            tabs = [await stage.tab(anna, where, way.url) for where in conversations]
            replies = [str((await tab.send("Hello?")).reply_id) for tab in tabs]
            await tabs[1].until_text(20)
            chatting.serving.parent.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert await asyncio.to_thread(chatting.serving.wait_end) == 0
            print(f"stopped after {time.monotonic() - began:.1f} s")
            assert [tab.history.of_type("draining") for tab in tabs] != [[], []]
            await asyncio.to_thread(chatting.start_again)
            way.move(chatting.serving)
            for tab, reply in zip(tabs, replies, strict=True):
                await tab.until_end(reply, 60)
            rows = await stage.settle(*conversations)
            ended = {row["id"]: (row["status"], row["attempt"], row["content"]) for row in rows}
            assert ended[replies[0]] == ("complete", 1, said(SHORT))
            assert ended[replies[1]] == ("complete", 2, said(LONG))
            assert {row["takeovers"] for row in rows} == {0}
    finally:
        await asyncio.to_thread(chatting.end)
