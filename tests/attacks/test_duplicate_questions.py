"""The same question again (RELIABILITY 5: 31; 3: 30, 31): one message, one answer, and one order for every tab."""

import asyncio
import json
import uuid
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from tests.attacks.claims import assert_refused
from tests.attacks.wires import ENDLESS, Event, Socket, Talk, chatting, port_of, socket_to, talk, watching
from tests.conftest import Start
from tests.fixtures.service import Account, Service

from parley.chat import service as chat_service

TWINS = 20
PATIENT: dict[str, Any] = {"PARLEY_LIMIT_DEADLINE_S": "1"}  # a busy machine answers late


async def post(service: Service, account: Account, path: str, body: dict[str, Any]) -> httpx.Response:
    return await service.http.post(path, json=body, headers=account.headers, timeout=20)


async def asked_over_socket(chat: Talk, client_id: str, content: str) -> Event:
    async with watching(chat) as socket:
        await socket.say("chat", client_id=client_id, content=content)
        while True:
            event = await socket.event()
            if event["type"] in {"ack", "error"}:
                return event


async def test_twenty_twins_on_every_route_are_one_question_and_one_answer(start_on_socket: Start) -> None:
    async with chatting(start_on_socket, pace_s=0.01) as service:
        chat = await talk(service)
        told, streamed = {"content": "Twice?", "client_id": "c-1"}, {"message": "Twice?", "client_id": "c-1"}
        in_talk = streamed | {"conversation_id": chat.id}
        by_rest = [
            post(service, chat.account, f"/chat/conversations/{chat.id}/messages", told) for _ in range(TWINS // 4)
        ]
        by_send = [post(service, chat.account, "/chat/send", in_talk) for _ in range(TWINS // 4)]
        by_stream = [post(service, chat.account, "/chat/stream", in_talk) for _ in range(TWINS // 4)]
        by_socket = [asked_over_socket(chat, "c-1", "Twice?") for _ in range(TWINS // 4)]
        rest, send, streams, acks = await asyncio.gather(
            *(asyncio.gather(*many) for many in (by_rest, by_send, by_stream, by_socket))
        )

        pairs = {(answer.json()["message"]["id"], answer.json()["reply"]["id"]) for answer in (*rest, *send)}
        pairs |= {(ack["message_id"], ack["reply_id"]) for ack in acks}
        for answer in streams:
            [ack] = [json.loads(line[6:]) for line in answer.text.split("\n") if '"type":"ack"' in line]
            pairs.add((ack["message_id"], ack["reply_id"]))
            assert answer.text.endswith("data: [DONE]\n\n")
            assert answer.text.count('"type":"complete"') == 1
        assert len(pairs) == 1
        rows = await chat.messages()
        assert [row["role"] for row in rows] == ["user", "assistant"]
        taken = [answer.status_code for answer in rest].count(202) + [ack["duplicate"] for ack in acks].count(False)
        assert taken <= 1, "only one of them was the first"


async def test_twins_without_a_conversation_make_one(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        account = await service.register()
        body = {"message": "Hello", "client_id": "c-1"}
        answers = await asyncio.gather(*(post(service, account, "/chat/send", body) for _ in range(TWINS)))

        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["conversation_id"] for answer in answers}) == 1
        listed = await service.http.get("/chat/conversations", headers=account.headers)
        assert len(listed.json()["data"]) == 1, "nothing is left of the twins that lost"


async def test_a_question_that_is_known_costs_nothing_again(start_on_socket: Start) -> None:
    async with chatting(start_on_socket, PARLEY_LIMIT_ASK="1/hour") as service:
        chat = await talk(service)
        path, body = f"/chat/conversations/{chat.id}/messages", {"content": "Hello", "client_id": "c-1"}
        first, again = [await post(service, chat.account, path, body) for _ in range(2)]
        assert (first.status_code, again.status_code) == (202, 200)
        assert first.json()["reply"]["id"] == again.json()["reply"]["id"]
        assert (await asked_over_socket(chat, "c-1", "Hello"))["duplicate"]
        assert_refused(await post(service, chat.account, path, body | {"client_id": "c-2"}), 429, code="rate_limited")


@pytest.mark.parametrize("redis", [{}, {"PARLEY_REDIS_URL": "redis://127.0.0.1:1"}], ids=["with Redis", "without"])
async def test_what_is_not_stored_costs_nothing(start_on_socket: Start, redis: dict[str, Any]) -> None:
    async with chatting(start_on_socket, PARLEY_LIMIT_ASK="2/hour", **PATIENT, **redis) as service:
        chat = await talk(service)
        other = await talk(service, chat.account)
        path, body = f"/chat/conversations/{chat.id}/messages", {"content": "Hello", "on_busy": "reject"}
        first = await post(service, chat.account, path, {"content": ENDLESS})
        assert first.status_code == 202, first.text
        foreign = path.replace(chat.id, str(uuid.uuid4()))
        for _ in range(3):
            assert_refused(await post(service, chat.account, path, body), 409, code="busy")
            assert_refused(await post(service, chat.account, foreign, body), 404, code="conversation_not_found")
        second = await post(service, chat.account, path.replace(chat.id, other.id), body)
        assert second.status_code == 202, second.text
        third = await talk(service, chat.account)
        refused = await post(service, chat.account, path.replace(chat.id, third.id), body)
        assert_refused(refused, 429, code="rate_limited")


async def test_whoever_is_refused_on_and_on_is_counted_after_all(start_on_socket: Start) -> None:
    """A refusal costs us a transaction: so many are free as there are other requests."""
    limits: dict[str, Any] = {"PARLEY_LIMIT_ASK": "3/hour", "PARLEY_LIMIT_GENERAL": "5/hour", **PATIENT}
    async with chatting(start_on_socket, **limits) as service:
        chat = await talk(service)
        async with watching(chat) as socket:
            await socket.say("chat", client_id="first", content=ENDLESS)
            for number in range(10):
                await socket.say("chat", client_id=f"refused-{number}", content="Hello", on_busy="reject")
            told: list[str] = []
            while len(told) < 11:
                event = await socket.event()
                if event["type"] in {"ack", "error"}:
                    told.append(event["error"]["code"] if event["type"] == "error" else "ack")
    assert told == ["ack"] + ["busy"] * (5 + 2) + ["rate_limited"] * 3


async def test_twins_that_do_not_wait_for_each_other_are_one(
    start_on_socket: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on several workers, or where the first hangs: the database tells who was first."""
    monkeypatch.setattr(chat_service, "TWIN_S", 0.0)
    async with chatting(start_on_socket, **PATIENT) as service:
        account = await service.register()
        body = {"message": "Hello", "client_id": "c-1"}
        twins = await asyncio.gather(*(post(service, account, "/chat/send", body) for _ in range(TWINS)))
        assert {answer.status_code for answer in twins} == {200}
        assert len({answer.json()["reply"]["id"] for answer in twins}) == 1


async def test_twins_cost_one_question(start_on_socket: Start) -> None:
    """Also where there are more of them than questions are allowed."""
    async with chatting(start_on_socket, PARLEY_LIMIT_ASK="5/hour", **PATIENT) as service:
        account = await service.register()
        body = {"message": "Hello", "client_id": "c-1"}
        async with service.parts["database"].transaction() as db:  # none is stored before all have come
            await db.execute(text("LOCK TABLE messages IN SHARE ROW EXCLUSIVE MODE"))
            asking = [asyncio.create_task(post(service, account, "/chat/send", body)) for _ in range(TWINS)]
            await asyncio.sleep(0.5)
        assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
        others = [
            (await post(service, account, "/chat/send", {"message": f"Hello {number}"})).status_code
            for number in range(5)
        ]
        assert others == [200] * 4 + [429]


async def test_the_same_id_for_something_else_is_refused_on_every_route(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        chat = await talk(service)
        other = await talk(service, chat.account)
        first = await post(service, chat.account, "/chat/send", {"message": "One", "client_id": "c-1"} | in_(chat))
        path = f"/chat/conversations/{chat.id}/messages"
        for answer in (
            await post(service, chat.account, path, {"content": "Two", "client_id": "c-1"}),
            await post(service, chat.account, path, {"content": "One ", "client_id": "c-1"}),
            await post(service, chat.account, "/chat/send", {"message": "Two", "client_id": "c-1"} | in_(chat)),
            await post(service, chat.account, "/chat/send", {"message": "One", "client_id": "c-1"} | in_(other)),
            await post(service, chat.account, "/chat/stream", {"message": "Two", "client_id": "c-1"}),
            await post(
                service, chat.account, f"/chat/messages/{first.json()['reply']['id']}/regenerate", {"client_id": "c-1"}
            ),
        ):
            assert_refused(answer, 422, code="client_id_reused")
        refused = await asked_over_socket(chat, "c-1", "Two")
        assert (refused["type"], refused["error"]["code"]) == ("error", "client_id_reused")
        assert refused["ref"] == "c-1"
        assert len(await chat.messages()) == 2
        assert await other.messages() == []


def in_(chat: Talk) -> dict[str, str]:
    return {"conversation_id": chat.id}


async def test_the_same_id_of_somebody_else_is_another_question(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        ada, eve = await talk(service), await talk(service)
        mine, theirs = [
            await post(service, chat.account, "/chat/send", {"message": "Hello", "client_id": "c-1"} | in_(chat))
            for chat in (ada, eve)
        ]
        assert (mine.status_code, theirs.status_code) == (200, 200)
        assert mine.json()["message"]["id"] != theirs.json()["message"]["id"]
        refused = await post(service, eve.account, "/chat/send", {"message": "Hello", "client_id": "c-2"} | in_(ada))
        assert_refused(refused, 404, code="conversation_not_found")


async def test_an_id_may_have_64_characters_of_its_kind(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        chat = await talk(service)
        path = f"/chat/conversations/{chat.id}/messages"
        bad = ("a" * 65, "a" * 256, "a" * 10_000, "", " ", "a b", "\u00e9", "a\n", "a\x00", "../a", "a;b", "\u0661")
        async with watching(chat) as socket:
            for client_id in bad:
                refused = await post(service, chat.account, path, {"content": "Hello", "client_id": client_id})
                assert refused.status_code == 422, client_id
                assert client_id.strip() == "" or client_id[:60] not in refused.text
            for client_id in bad[:5]:
                await socket.say("chat", client_id=client_id, content="Hello")
                assert (await socket.until("error"))[-1]["error"]["param"] == "client_id"
        assert await chat.messages() == []
        good = await post(service, chat.account, path, {"content": "Hello", "client_id": "a-_Z" * 16})
        assert good.status_code == 202


async def test_ten_tabs_that_talk_at_once_see_one_order(start_on_socket: Start) -> None:
    """A screen built from events is the screen a reload would give."""
    async with chatting(start_on_socket, pace_s=0.002, PARLEY_CHAT_QUEUE_MAX="20") as one:
        chat = await talk(one)

        async def tab(number: int) -> list[Event]:
            async with socket_to(port_of(one), chat.id, headers=chat.account.headers) as socket:
                events = await socket.until("reset")
                await socket.say("chat", client_id=f"tab-{number}", content=f"Question {number}")
                while sum(event["type"] == "complete" for event in events) < 10:
                    events.append(await next_of(socket))
                return events

        screens = await asyncio.gather(*(tab(number) for number in range(10)))
        stored = [(row["id"], row["seq"], row["content"]) for row in await chat.messages()]
        for events in screens:
            assert shown(events) == stored
            revs = [event["message"]["rev"] for event in events if event["type"] == "message"]
            assert revs == sorted(revs)


async def next_of(socket: Socket) -> Event:
    async with asyncio.timeout(20):
        return await socket.event()


def shown(events: list[Event]) -> list[tuple[str, int, str]]:
    """Return the rows a screen holds in the end, in the order it shows them."""
    rows: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["type"] == "reset":
            rows = {row["id"]: dict(row) for row in event["messages"]}
        elif event["type"] == "message":
            kept = rows.get(event["message"]["id"], {}).get("content", "")
            rows[event["message"]["id"]] = {**event["message"], "content": event["message"]["content"] or kept}
        elif event["type"] == "token":
            rows[event["message_id"]]["content"] += event["content"]
        elif event["type"] == "restart":
            rows[event["message_id"]]["content"] = ""
    return [(row["id"], row["seq"], row["content"]) for row in sorted(rows.values(), key=lambda row: row["seq"])]
