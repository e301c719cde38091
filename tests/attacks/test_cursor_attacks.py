"""Cursors that nobody was given (RELIABILITY 5: 14, 15): a `reset` or 404, never a word of another conversation."""

import asyncio
import json
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from tests.attacks.wires import (
    ENDLESS,
    Event,
    Talk,
    asking,
    chatting,
    following,
    knock,
    port_of,
    socket_to,
    talk,
    text_of,
    watching,
)
from tests.conftest import Start
from tests.fixtures.service import Service

from parley.chat.cursor import Position, cursor_prefix, encode_cursor

CANARY = "canary-7f3d"


def short(identifier: str) -> str:
    return urlsafe_b64encode(UUID(identifier).bytes)[:22].decode()


def prefix_of(chat: Talk) -> str:
    return cursor_prefix(chat.service.parts["database"].timeline, UUID(chat.id))


def nonsense(chat: Talk) -> list[str]:
    """Return what is no cursor of ours, however near it comes."""
    good = encode_cursor(prefix_of(chat), Position(1))
    _, timeline, conversation, *_ = good.split(".")
    own = f"1.{timeline}.{conversation}."
    shapes = ["", "1..0.0", "-1..0.0", "1..-1.0", "1..0.-1", f"{2**63}..0.0", f"{2**64}..0.0", "1e3..0.0", "1.x.0.0"]
    shapes += ["0x1..0.0", " 1..0.0", "1..0.0 ", "1..0.0\t", "1..0.0.0", "\u0661..0.0", "1..0", "*..0.0", "1..0.1e9"]
    wholes = ["x", "1", ".....", "A" * 129, "A" * 5_000, good + "\u2028", good[:-1] + "\u00e9", "{}", "[]", "null"]
    wholes += [
        good.replace("1.", "2.", 1),
        good.upper().replace(".", ".."),
        f"{good},{good}",
        "' OR 1=1 --",
        "%00",
        "*",
    ]
    return [*(own + shape for shape in shapes[1:] if shape != "1..0.0"), *wholes]


async def first_of(chat: Talk, cursor: str) -> tuple[list[Event], list[Event]]:
    """Return what comes first over both transports."""
    query = f"?cursor={quote(cursor)}"
    async with socket_to(port_of(chat.service), chat.id, query, headers=chat.account.headers) as socket:
        over_socket = [await socket.event(), await socket.event()]
    async with following(chat, query=query) as stream:
        over_stream = [(await stream.record()).event for _ in range(2)]  # type: ignore[union-attr]
    return over_socket, over_stream


async def test_what_is_no_cursor_is_answered_with_a_reset(start_on_socket: Start, subtests: pytest.Subtests) -> None:
    async with chatting(start_on_socket) as service:
        chat = await talk(service)
        await chat.answered("Hello")
        cursors = nonsense(chat)
        answers = await asyncio.gather(*(first_of(chat, cursor) for cursor in cursors))
        for cursor, both in zip(cursors, answers, strict=True):
            with subtests.test(cursor[:60]):
                for events in both:
                    assert [event["type"] for event in events] == ["ready", "reset"]
                    assert events[1]["reason"] == "cursor_unreadable"
                    assert len(events[1]["messages"]) == 2


async def test_a_header_that_is_no_cursor_is_one_too(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        chat = await talk(service)
        for cursor in ("x", "A" * 10_000, "1.", '"', "id: 1"):
            async with following(chat, None, **{"Last-Event-ID": cursor}) as stream:
                assert (await stream.until("reset"))[-1]["reason"] == "cursor_unreadable"


async def test_a_cursor_of_another_history_or_the_future_is_answered_with_a_reset(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        chat = await talk(service)
        told = await chat.answered("Hello")
        reply = UUID(told["reply"]["id"])
        other = cursor_prefix("0-00000000", UUID(chat.id))
        cases = [(encode_cursor(other, Position(1)), "other_history")]
        cases += [(encode_cursor(prefix_of(chat), Position(rev)), "ahead") for rev in (10**6, 10**18 - 1)]
        cases += [(encode_cursor(prefix_of(chat), Position(10**9, reply, 999_999_999, 999_999_999)), "ahead")]
        for cursor, reason in cases:
            for events in await first_of(chat, cursor):
                assert (events[1]["type"], events[1]["reason"]) == ("reset", reason)


async def test_a_cursor_of_another_conversation_is_404_whoever_owns_it(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        chat, own, theirs = await talk(service), None, await talk(service)
        own = await talk(service, chat.account)
        await theirs.answered(CANARY)
        await own.answered("Hello")
        for other in (own.id, theirs.id, str(uuid4())):
            cursor = encode_cursor(cursor_prefix(service.parts["database"].timeline, UUID(other)), Position(1))
            status, answer = await knock(service, f"/chat/ws/{chat.id}?cursor={cursor}", **chat.account.headers)
            assert status == 404
            path = f"/chat/conversations/{chat.id}/stream"
            ways: list[dict[str, dict[str, str]]] = [
                {"params": {"cursor": cursor}},
                {"headers": {"Last-Event-ID": cursor}},
            ]
            for way in ways:
                headers = {**chat.account.headers, **way.get("headers", {})}
                refused = await service.http.get(path, params=way.get("params"), headers=headers)
                assert refused.status_code == 404
                assert CANARY not in refused.text + answer.decode()
                body = {"message": "Hello", "conversation_id": chat.id}
                refused = await service.http.post("/chat/stream", json=body, params=way.get("params"), headers=headers)
                assert refused.status_code == 404
        assert await chat.messages() == [], "nothing is asked by a cursor that is refused"


async def test_a_reply_of_others_in_a_cursor_brings_nothing_of_it(start_on_socket: Start) -> None:
    """A cursor selects positions: replies come from the rows of its conversation, wherever else there is one."""
    async with chatting(start_on_socket, pace_s=0.02) as service:
        chat, theirs = await talk(service), await talk(service)
        told = await chat.answered("Hello")
        ended = await theirs.answered(CANARY)
        live = await theirs.ask(f"{ENDLESS} 8")
        newest = told["reply"]["rev"]
        for reply in (ended["reply"]["id"], live["reply"]["id"], str(uuid4())):
            for rev, attempt, n in ((newest, 1, 0), (newest, 0, 0), (newest, 1, 3), (0, 1, 0), (newest, 2, 10**8)):
                cursor = encode_cursor(prefix_of(chat), Position(rev, UUID(reply), attempt, n))
                async with watching(chat, query=f"?cursor={cursor}") as socket:
                    await socket.say("ping")
                    events = await socket.until("pong")
                assert not [event for event in events if event["type"] in {"token", "start", "restart"}]
                assert CANARY not in json.dumps(events)
                # A resumed question ends as ended questions of this conversation do, not as others' do.
                headers = {"Last-Event-ID": cursor}
                async with asking(service, chat.account, {"message": "x"}, **headers) as stream:
                    records = await stream.rest()
                assert records[-1].is_done, (reply, rev, attempt, n)
                assert CANARY not in stream.raw.decode()
        await service.http.post(f"/chat/messages/{live['reply']['id']}/stop", headers=theirs.account.headers)


async def test_a_position_beyond_the_answer_still_ends_with_the_exact_answer(start_on_socket: Start) -> None:
    async with chatting(start_on_socket, pace_s=0.03) as service:
        chat = await talk(service)
        question = "The answer is what was asked, " * 4
        asked = await chat.ask(question)
        reply = asked["reply"]
        places = [(1, 10**8), (999_999_999, 0), (999_999_999, 999_999_999), (0, 999_999_999)]
        cursors = [
            encode_cursor(prefix_of(chat), Position(reply["rev"], UUID(reply["id"]), attempt, n))
            for attempt, n in places
        ]
        texts = await asyncio.gather(*(text_behind(chat, cursor) for cursor in cursors))
        for place, text in zip(places, texts, strict=True):
            assert text == question, place


async def text_behind(chat: Talk, cursor: str) -> str:
    async with watching(chat, query=f"?cursor={cursor}") as socket:
        return text_of(await socket.until("complete"))


async def test_a_cursor_that_was_cut_short_by_a_hair_reaches_no_other_state(start_on_socket: Start) -> None:
    """Every single changed character: refused, reset, or a position of this conversation."""
    async with chatting(start_on_socket) as service:
        chat, theirs = await talk(service), await talk(service)
        await theirs.answered(CANARY)
        told = await chat.answered("Hello")
        good = encode_cursor(prefix_of(chat), Position(told["reply"]["rev"], UUID(told["reply"]["id"]), 1, 3))
        for place in range(0, len(good), 2):
            for letter in "0Z":
                cursor = good[:place] + letter + good[place + 1 :]
                status, answer = await knock(service, f"/chat/ws/{chat.id}?cursor={cursor}", **chat.account.headers)
                assert status in {101, 404}, cursor
                assert CANARY.encode() not in answer
        await is_unharmed(service, chat)


async def is_unharmed(service: Service, chat: Talk) -> None:
    assert (await service.http.get("/health/live")).status_code == 200
    async with watching(chat) as socket:
        await socket.is_served()


async def test_a_question_with_a_cursor_of_another_conversation_is_refused_before_it_is_stored(
    start_on_socket: Start,
) -> None:
    async with chatting(start_on_socket) as service:
        chat = await talk(service)
        other = await talk(service, chat.account)
        cursor = encode_cursor(prefix_of(other), Position(1))
        body = {"message": "Hello?", "conversation_id": chat.id, "client_id": "one"}
        headers = {**chat.account.headers, "Last-Event-ID": cursor}
        answer = await service.http.post("/chat/stream", json=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "conversation_not_found")
        assert await chat.messages() == []
        assert await other.messages() == []


async def test_a_question_that_names_no_conversation_is_one_of_its_cursor_s(start_on_socket: Start) -> None:
    """Its client has seen events of it; what the database has lost of that since is asked there again."""
    async with chatting(start_on_socket) as service:
        chat = await talk(service)
        cursor = encode_cursor(prefix_of(chat), Position(0))
        async with asking(
            service, chat.account, {"message": "Hello?", "client_id": "one"}, **{"Last-Event-ID": cursor}
        ) as stream:
            assert (await stream.rest())[-1].is_done
        assert [message["content"] for message in await chat.messages()] == ["Hello?", "Hello?"]


async def test_a_stream_ends_also_where_a_reset_held_the_end_of_its_reply(start_on_socket: Start) -> None:
    """A question asked with a cursor that leads nowhere, whose reply has ended before anybody looked."""
    async with chatting(start_on_socket) as service:
        chat = await talk(service)
        connections: Any = service.parts["connections"]
        open_ = connections.open

        async def open_late(*arguments: Any, **options: Any) -> Any:
            async with asyncio.timeout(5):
                while not any(message["status"] == "complete" for message in (await chat.messages())[1:]):
                    await asyncio.sleep(0.01)
            return await open_(*arguments, **options)

        connections.open = open_late
        body = {"message": "Hello?", "conversation_id": chat.id, "client_id": "one"}
        async with asking(service, chat.account, body, **{"Last-Event-ID": "nonsense"}) as stream:
            assert (await stream.rest())[-1].is_done
