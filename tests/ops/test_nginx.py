"""Parley behind nginx, with the configuration we ship: streams and sockets pass as if it were not there."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio
from tests.attacks.test_smuggling import AMBIGUOUS, said_to
from tests.bench.wire import Answer, Connection, request
from tests.ops.front import SHARED, Front, needs_nginx, nginx
from tests.soak.taps import tap
from tests.story.chatting import Chatting, Person, Stage, gaps, percentile, said, staged, tokens
from tests.story.conftest import module_place, place
from tests.story.serving import wait_until
from tests.story.test_chat_streams import (
    test_an_answer_is_had_without_a_stream,
    test_an_answer_is_streamed_over_one_post,
    test_an_answer_is_streamed_to_a_socket,
    test_an_answer_of_any_letters_arrives_as_it_was_written,
    test_five_people_at_once_see_their_own_and_nothing_else,
    test_the_same_post_sent_again_goes_on_in_mid_answer_and_after_its_end,
)

pytestmark = needs_nginx
__all__ = [
    "module_place",
    "place",
    "test_an_answer_is_had_without_a_stream",
    "test_an_answer_is_streamed_over_one_post",
    "test_an_answer_is_streamed_to_a_socket",
    "test_an_answer_of_any_letters_arrives_as_it_was_written",
    "test_five_people_at_once_see_their_own_and_nothing_else",
    "test_the_same_post_sent_again_goes_on_in_mid_answer_and_after_its_end",
]
WORKERS = 2
BODY_LIMIT_BYTES = 131_072


class Fronted(Chatting):
    """A service that is reached through nginx."""

    front: Front | None = None

    @property
    def url(self) -> str:
        return self.front.url if self.front else super().url


@pytest.fixture(scope="module")
def chatting(module_place: Path) -> Iterator[Fronted]:
    """One service with two workers behind one nginx, for the whole module."""
    running = Fronted(module_place, "--workers", str(WORKERS), environ=SHARED)
    try:
        with nginx(running.serving.port) as front:
            running.front = front
            yield running
    finally:
        running.end()


@pytest_asyncio.fixture
async def stage(chatting: Fronted, at_leisure: None) -> AsyncIterator[Stage]:
    """Hold what one test opens."""
    async with staged(chatting) as made:
        yield made


@pytest_asyncio.fixture
async def anna(stage: Stage) -> Person:
    """Somebody with an account."""
    return await stage.chatting.person()


def front_of(stage: Stage) -> Front:
    assert isinstance(stage.chatting, Fronted)
    assert stage.chatting.front is not None
    return stage.chatting.front


@pytest.mark.parametrize("way", ["socket", "stream"])
async def test_a_connection_that_breaks_goes_on_where_it_was(stage: Stage, anna: Person, way: str) -> None:
    """Told once, whichever worker nginx finds."""
    conversation = await stage.chatting.conversation(anna, await stage.chatting.agent(tokens(90)))
    async with tap(front_of(stage).port) as shaky:
        tab = await (stage.tab if way == "socket" else stage.tab_sse)(anna, conversation, shaky.url)
        steady = await stage.tab(anna, conversation)
        reply = str((await steady.send("Hello?")).reply_id)
        for number in (1, 2):
            await tab.until_text(80 * number)
            shaky.shut()
            await asyncio.sleep(0.1)
            shaky.is_shut = False
            await tab.until(lambda history, number=number: len(history.of_type("ready")) > number)  # type: ignore[misc]
        await tab.until_end(reply)
        assert tab.history.text(reply) == said(90)
        assert len(tab.history.of_type("reset")) == 1
        await stage.settle(conversation)


async def test_a_worker_is_killed_in_mid_answer(stage: Stage, anna: Person) -> None:
    """Its viewers come back through nginx by themselves, and the answer is given whole."""
    conversation = await stage.chatting.conversation(anna, await stage.chatting.agent(tokens(120)))
    tabs = [await stage.tab(anna, conversation), *[await stage.tab_sse(anna, conversation) for _ in range(3)]]
    reply = str((await tabs[0].send("Hello?")).reply_id)
    await tabs[1].until_text(60)
    [owner] = {row["owner"] for row in await stage.chatting.rows(conversation) if row["id"] == reply}
    assert owner
    os.kill(min(stage.chatting.serving.workers()), signal.SIGKILL)
    for tab in tabs:
        assert (await tab.until_end(reply))["status"] == "complete"
    await stage.settle(conversation)
    wait_until(lambda: len(stage.chatting.serving.workers()) == WORKERS)


async def test_the_workers_are_replaced_under_live_answers(stage: Stage, anna: Person) -> None:
    agent = await stage.chatting.agent(tokens(100, 0.03))
    conversations = [await stage.chatting.conversation(anna, agent) for _ in range(4)]
    tabs = [(await stage.tab(anna, where), await stage.tab_sse(anna, where)) for where in conversations]
    replies = [str((await tab.send("Hello?")).reply_id) for tab, _ in tabs]
    serving = stage.chatting.serving
    told = len(serving.err)
    serving.parent.send_signal(signal.SIGHUP)
    for pair, reply in zip(tabs, replies, strict=True):
        for screen in pair:
            assert (await screen.until_end(reply, 60))["status"] == "complete"
            assert screen.history.text(reply) == said(100)
            assert not screen.history.of_type("restart")
    while serving.err[told:].count(" replaced") < WORKERS:
        await asyncio.sleep(0.1)
    await stage.settle(*conversations)


async def test_tokens_come_one_by_one(stage: Stage, anna: Person) -> None:
    """Nothing is held back until there is more of it."""
    conversation = await stage.chatting.conversation(anna, await stage.chatting.agent(tokens(60, 0.03)))
    tabs = [await stage.tab(anna, conversation), await stage.tab_sse(anna, conversation)]
    reply = str((await tabs[0].send("Hello?")).reply_id)
    for tab in tabs:
        await tab.until_end(reply)
        pace = gaps(tab.history.token_times(reply))
        assert len(pace) > 15
        assert percentile(pace, 0.5) < 0.1
    await stage.settle(conversation)


async def test_no_request_is_hidden_from_nginx(stage: Stage) -> None:
    """Parley serves what nginx has seen, each as often: both cut alike what two servers might cut differently."""
    front, serving, hidden = front_of(stage), stage.chatting.serving, '"path":"/smuggled"'
    told = len(serving.out)
    await asyncio.gather(*(said_to(front.port, request, 2.0) for request in AMBIGUOUS.values()))
    with suppress(TimeoutError):
        async with asyncio.timeout(15):  # lines are written behind the answers
            while serving.out[told:].count(hidden) != front.access.count(hidden):
                await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)
    assert '"path":"/auth/token"' in serving.out[told:], "some of them are let through"
    assert serving.out[told:].count(hidden) == front.access.count(hidden)


async def test_idle_viewers_are_kept_by_what_parley_says(place: Path, at_leisure: None) -> None:
    """Pings and comments come more often than nginx gives up. As shipped: each 25 s and 15 s, against 90 s."""
    often = {**SHARED, "PARLEY_CHAT_HEARTBEAT_S": "1", "PARLEY_CHAT_COMMENT_S": "1"}
    chatting = Fronted(place, "--workers", "1", environ=often)
    try:
        with nginx(chatting.serving.port, changes={"proxy_read_timeout 90s": "proxy_read_timeout 3s"}) as front:
            chatting.front = front
            async with staged(chatting) as stage:
                anna = await chatting.person()
                conversation = await chatting.conversation(anna, await chatting.agent(tokens(5)))
                tabs = [await stage.tab(anna, conversation), await stage.tab_sse(anna, conversation)]
                await asyncio.sleep(7.0)
                reply = str((await tabs[0].send("Still here?")).reply_id)
                for tab in tabs:
                    await tab.until_end(reply)
                    assert not tab.history.of_type("client_reconnecting")
                await stage.settle(conversation)
    finally:
        await asyncio.to_thread(chatting.end)


async def ask(port: int, *parts: str, body: object = None, **headers: str) -> Answer:
    named = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    method, path = parts
    connection = await Connection.open(port)
    try:
        whole = request(method, path, body=body)
        return await connection.ask(whole.replace(b"\r\n", "".join(f"\r\n{line}" for line in (*named, "")).encode(), 1))
    finally:
        await connection.close()


async def test_the_inside_is_not_shown(stage: Stage) -> None:
    port = front_of(stage).port
    for path in ("/metrics", "/health", "/health/ready", "/debug/anything"):
        assert (await ask(port, "GET", path)).status == 404, path
    assert (await ask(port, "GET", "/health/live")).status == 200


async def test_what_is_too_large_is_refused_in_our_shape(stage: Stage) -> None:
    port = front_of(stage).port
    answer = await ask(port, "POST", "/auth/register", body={"name": "x" * BODY_LIMIT_BYTES})
    assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert answer.header("content-type") == "application/problem+json"
    assert (await ask(port, "GET", "/health/live", x_long="x" * 40_000)).status == 400


async def test_the_log_has_no_tickets(stage: Stage, anna: Person) -> None:
    async with stage.chatting.http(anna) as http:
        await http.get("/auth/me?ticket=canary-of-a-ticket")
    front = front_of(stage)
    wait_until(lambda: '"path":"/auth/me"' in front.access)
    assert "canary-of-a-ticket" not in front.access + front.errors


class Upstream:
    """A server of which nothing is known but what it was sent."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.seen: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.seen.append(head.decode())
        writer.write(self._says)
        await writer.drain()
        writer.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK"


@asynccontextmanager
async def upstream(says: bytes = OK) -> AsyncIterator[Upstream]:
    made = Upstream(says)
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made


async def test_what_a_client_says_of_itself_is_no_hop(at_leisure: None) -> None:
    async with upstream() as server:
        with nginx(server.port) as front:
            for path in ("/auth/me", "/chat/stream", "/chat/ws/1"):
                spoofed = {
                    "X_Forwarded_For": "203.0.113.9",
                    "X_Forwarded_Proto": "https",
                    "Forwarded": "for=203.0.113.9",
                }
                await ask(front.port, "GET", path, Upgrade="h2c", Connection="Upgrade", **spoofed)
        for seen in server.seen:
            assert "203.0.113.9" not in seen
            assert "X-Forwarded-For: 127.0.0.1\r\n" in seen
            assert "X-Forwarded-Proto: http\r\n" in seen
            assert "h2c" not in seen
        assert len(server.seen) == 3


async def test_a_question_that_was_sent_is_never_sent_again(at_leisure: None) -> None:
    """A GET is asked of the next one; of a POST nobody knows what became of it, and it is answered with 503."""
    async with upstream(b"") as one, upstream(b"") as other:
        with nginx(one.port, other.port) as front:
            answer = await ask(front.port, "POST", "/chat/stream", body={"message": "Hello?"})
            assert (answer.status, answer.json()["error"]["retryable"]) == (503, True)
            assert answer.header("retry-after") == "1"
            assert len(one.seen) + len(other.seen) == 1
            assert (await ask(front.port, "GET", "/auth/me")).status == 503
            assert len(one.seen) + len(other.seen) == 3


async def test_whoever_does_not_listen_is_passed_over(at_leisure: None) -> None:
    """As an instance that is being replaced."""
    async with upstream() as away:
        pass
    async with upstream() as there:
        with nginx(away.port, there.port) as front:
            answers = [(await ask(front.port, "POST", "/auth/token", body={})).status for _ in range(6)]
    assert answers == [200] * 6
