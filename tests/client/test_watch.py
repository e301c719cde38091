"""Watching over a socket: what happens when it ends, and what becomes of commands."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from tests.client.scripted import QUESTION, READY, REPLY, RESET, Act, Peer, complete, scripted_sockets, token

from parley.client.connection import ParleyClient
from parley.client.errors import CommandRefused, ConnectionLost, ContentMismatch, Refused
from parley.client.events import RECONNECTING
from parley.client.watch import SocketWatch

CONVERSATION = "c-1"


@asynccontextmanager
async def watching(acts: Sequence[Act | HTTPStatus], **credentials: Any) -> AsyncIterator[SocketWatch]:
    """Watch servers that follow a script."""
    async with scripted_sockets(acts) as url, ParleyClient(url, **credentials) as client:  # noqa: SIM117  # too long
        async with client.watch(CONVERSATION) as stream:
            yield stream


async def until(stream: SocketWatch, kind: str) -> list[str]:
    """Take events up to one of this type; return the types of all."""
    kinds = []
    async with asyncio.timeout(10):
        async for event in stream:
            kinds.append(event.type)
            if event.type == kind:
                break
    return kinds


async def begin(peer: Peer) -> None:
    await peer.tell(READY)
    await peer.tell(RESET, "cursor-1")
    await peer.tell(token("Hel"), "cursor-2")


async def test_events_fold_into_a_state() -> None:
    async def act(peer: Peer) -> None:
        await begin(peer)
        await peer.tell(token("lo"), "cursor-3")
        await peer.tell(complete("Hello"), "cursor-4")
        await peer.stay()

    async with watching([act]) as stream:
        assert await until(stream, "complete") == ["ready", "reset", "token", "token", "complete"]
        reply = stream.state.find(REPLY)
        assert reply is not None
        assert (reply.content, reply.status) == ("Hello", "complete")
        assert stream.cursor == "cursor-4"


@pytest.mark.parametrize("end", ["vanish", 1012, 1006 + 5, 1013])
async def test_it_comes_back_with_its_cursor_and_goes_on(end: str | int) -> None:
    async def first(peer: Peer) -> None:
        assert "cursor" not in peer.path
        await begin(peer)
        await (peer.vanish() if isinstance(end, str) else peer.close(end))

    async def second(peer: Peer) -> None:
        assert peer.path.endswith("?cursor=cursor-2")
        await peer.tell(READY)
        await peer.tell(token("lo"), "cursor-3")
        await peer.tell(complete("Hello"), "cursor-4")
        await peer.stay()

    async with watching([first, second]) as stream:
        kinds = await until(stream, "complete")
        assert kinds == ["ready", "reset", "token", RECONNECTING, "ready", "token", "complete"]


async def test_it_leaves_a_server_that_drains_when_it_was_asked_to() -> None:
    async def draining(peer: Peer) -> None:
        await begin(peer)
        await peer.tell({"type": "draining", "reconnect_in_ms": 200})
        await peer.tell(token("lo"), "cursor-3")
        await peer.stay()

    async def second(peer: Peer) -> None:
        assert peer.path.endswith("?cursor=cursor-3")
        await peer.tell(READY)
        await peer.stay()

    async with watching([draining, second]) as stream:
        began = asyncio.get_running_loop().time()
        assert "draining" in await until(stream, RECONNECTING)
        assert asyncio.get_running_loop().time() - began >= 0.19
        await until(stream, "ready")


async def test_a_server_that_drains_and_closes_is_left_alone_as_long_as_it_asked() -> None:
    async def draining(peer: Peer) -> None:
        await peer.tell(READY)
        await peer.tell({"type": "draining", "reconnect_in_ms": 60_000})
        await peer.close(1012)

    async with watching([draining]) as stream:
        waits = []
        async with asyncio.timeout(10):
            async for event in stream:
                if event.type == RECONNECTING:
                    waits.append(event.data["in_s"])
                    break
    assert 55 < waits[0] <= 60


async def test_a_torn_reply_is_read_anew_without_a_cursor() -> None:
    async def tears(peer: Peer) -> None:
        await begin(peer)
        await peer.tell(complete("Hello"), "cursor-3")
        await peer.stay()

    async def heals(peer: Peer) -> None:
        assert "cursor" not in peer.path
        await begin(peer)
        await peer.tell(token("lo"), "cursor-3")
        await peer.tell(complete("Hello"), "cursor-4")
        await peer.stay()

    async with watching([tears, heals]) as stream:
        assert RECONNECTING in await until(stream, "complete")
        reply = stream.state.find(REPLY)
    assert reply is not None
    assert reply.content == "Hello"


async def test_a_reply_that_is_torn_twice_is_an_error() -> None:
    async def tears(peer: Peer) -> None:
        await begin(peer)
        await peer.tell(complete("Hello"), "cursor-3")
        await peer.stay()

    async with watching([tears, tears]) as stream:
        with pytest.raises(ContentMismatch):
            await until(stream, "never")


@pytest.mark.parametrize("refusal", [HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN])
async def test_who_is_refused_stays_away(refusal: HTTPStatus) -> None:
    async with watching([refusal]) as stream:
        with pytest.raises(Refused) as raised:
            await until(stream, "never")
        assert raised.value.code == "scripted"
        with pytest.raises(Refused):
            await until(stream, "never")
        with pytest.raises(ConnectionLost):
            await stream.send("Hello?")


async def test_a_stale_token_is_renewed() -> None:
    asked: list[bool] = []

    async def source(is_stale: bool) -> str:
        asked.append(is_stale)
        return f"token-{len(asked)}"

    async def first(peer: Peer) -> None:
        assert peer.token == "Bearer token-2"
        await peer.tell(READY)
        await peer.close(4401)

    async def second(peer: Peer) -> None:
        assert peer.token == "Bearer token-3"
        await peer.tell(READY)
        await peer.stay()

    async with watching([HTTPStatus.UNAUTHORIZED, first, second], token=source) as stream:
        await until(stream, "ready")
        await until(stream, "ready")
    assert asked == [False, True, True]


async def test_a_token_that_cannot_be_renewed_is_refused() -> None:
    async with watching([HTTPStatus.UNAUTHORIZED], token="t") as stream:
        with pytest.raises(Refused):
            await until(stream, "never")


async def test_each_connection_has_a_ticket_of_its_own() -> None:
    tickets = iter(["one", "two"])

    async def source() -> str:
        return next(tickets)

    async def first(peer: Peer) -> None:
        assert peer.path.endswith("?ticket=one")
        await peer.close(1012)

    async def second(peer: Peer) -> None:
        assert peer.path.endswith("?ticket=two")
        await peer.tell(READY)
        await peer.stay()

    async with watching([first, second], tickets=source) as stream:
        await until(stream, "ready")


async def test_a_command_without_an_answer_is_sent_again_under_its_id() -> None:
    heard = []

    async def first(peer: Peer) -> None:
        await peer.tell(READY)
        heard.append(await peer.hear())
        await peer.vanish()

    async def second(peer: Peer) -> None:
        await peer.tell(READY)
        heard.append(await peer.hear())
        await peer.ack(heard[-1], duplicate=True)
        await peer.stay()

    async with watching([first, second]) as stream:
        taken = await stream.send("Hello?")
    assert (taken.message_id, taken.reply_id, taken.is_duplicate) == (QUESTION, REPLY, True)
    assert heard[0] == heard[1]
    assert heard[0]["content"] == "Hello?"


async def test_a_command_is_answered_though_nobody_takes_the_events() -> None:
    async def act(peer: Peer) -> None:
        await peer.tell(READY)
        await peer.tell(RESET, "cursor-1")
        for number in range(3000):
            await peer.tell(token("x"), "cursor-2")
            if number % 100 == 0:
                await asyncio.sleep(0)
        await peer.ack(await peer.hear())
        await peer.stay()

    async with watching([act]) as stream:
        await asyncio.sleep(0.3)
        assert stream._items.qsize() <= 1000
        assert (await stream.stop(REPLY)).reply_id == REPLY


async def test_answers_go_to_their_commands() -> None:
    async def act(peer: Peer) -> None:
        await peer.tell(READY)
        first, second = await peer.hear(), await peer.hear()
        error = {"code": "busy", "message": "Busy.", "retryable": False, "param": None}
        await peer.tell({"type": "error", "error": error, "request_id": "r", "ref": second["client_id"]})
        await peer.tell({"type": "error", "error": error, "request_id": "r"})
        await peer.ack(first)
        await peer.stay()

    async with watching([act]) as stream:
        both = asyncio.gather(stream.send("one"), stream.send("two", on_busy="reject"), return_exceptions=True)
        one, two = await both
    assert getattr(one, "message_id", None) == QUESTION
    assert isinstance(two, CommandRefused)
    assert two.code == "busy"


@pytest.mark.parametrize(
    ("content", "client_id"), [("", "c-1"), ("x" * 40_000, "c-1"), ("x", "no id"), ("\ud800", "c")]
)
async def test_what_nobody_would_take_is_refused_here(content: str, client_id: str) -> None:
    async def act(peer: Peer) -> None:
        await peer.stay()

    async with watching([act]) as stream:
        with pytest.raises(CommandRefused):
            await stream.send(content, client_id=client_id)
        with pytest.raises(CommandRefused):
            await stream.stop("no id")


async def test_patience_ends() -> None:
    async with ParleyClient("http://127.0.0.1:9") as client, client.watch(CONVERSATION, patience_s=0.0) as stream:
        with pytest.raises(ConnectionLost) as raised:
            await until(stream, "never")
    assert raised.value.code == "unreachable"


async def test_leaving_ends_it_at_once() -> None:
    ended = asyncio.Event()

    async def act(peer: Peer) -> None:
        await begin(peer)
        await peer.stay()
        ended.set()

    async with scripted_sockets([act]) as url, ParleyClient(url) as client:
        async with client.watch(CONVERSATION) as stream:
            await until(stream, "ready")
        async with asyncio.timeout(5):
            await ended.wait()
