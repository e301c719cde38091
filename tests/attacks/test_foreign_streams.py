"""Conversations of others over the wires (RELIABILITY 5: 14; P9): nothing is done to them, nothing of them is told."""

import asyncio
import json
from typing import Any
from uuid import uuid4

from tests.attacks.claims import assert_refused
from tests.attacks.wires import ENDLESS, Talk, asking, chatting, talk, watching
from tests.conftest import Start

SECRET_WORD = "canary-51b0"


def commands_against(target: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("stop", {"message_id": target}),
        ("regenerate", {"message_id": target, "client_id": f"r-{target[-6:]}"}),
        ("edit", {"message_id": target, "client_id": f"e-{target[-6:]}", "content": "mine now"}),
        ("feedback", {"message_id": target, "rating": "down", "comment": "mine now"}),
    ]


async def test_no_command_reaches_a_message_of_others(start_on_socket: Start) -> None:
    async with chatting(start_on_socket, pace_s=0.02) as service:
        theirs, own = await talk(service), await talk(service)
        ended = await theirs.answered(SECRET_WORD)
        live = await theirs.ask(f"{ENDLESS} 8")
        before = await theirs.messages()
        async with watching(own) as socket:
            for target in (ended["reply"]["id"], ended["message"]["id"], live["reply"]["id"], live["message"]["id"]):
                for kind, fields in commands_against(target):
                    absent = str(uuid4())
                    answers = []
                    for named in (target, absent):
                        await socket.say(kind, **fields | {"message_id": named})
                        events = await socket.until("error")
                        answers.append(events[-1]["error"])
                        assert SECRET_WORD not in json.dumps(events)
                    assert answers[0] == answers[1], kind
                    assert answers[0]["code"] == "message_not_found", kind
                    await asyncio.sleep(0.12)  # 10 frames a second are what a socket may say

        assert await theirs.messages() == before, "nothing was done"
        async with watching(theirs) as socket:
            assert (await socket.until("token"))[-1]["message_id"] == live["reply"]["id"], "it is still being written"
        await service.http.post(f"/chat/messages/{live['reply']['id']}/stop", headers=theirs.account.headers)


async def test_a_question_into_a_conversation_of_others_is_not_asked(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        theirs, eve = await talk(service), await service.register()
        for name in ("conversation_id", "session_id"):
            body = {"message": "Hello", name: theirs.id, "client_id": "c-1"}
            for path in ("/chat/stream", "/chat/send"):
                refused = await service.http.post(path, json=body, headers=eve.headers)
                assert_refused(refused, 404, code="conversation_not_found")
        assert await theirs.messages() == []


async def test_who_watches_hears_of_its_own_conversation_only(start_on_socket: Start) -> None:
    """Twenty conversations at once, each of its own owner, each with its own word."""
    async with chatting(start_on_socket, pace_s=0.002) as service:
        talks = [await talk(service) for _ in range(20)]

        async def one(chat: Talk, number: int) -> tuple[int, str]:
            async with watching(chat) as socket:
                body = {"message": f"word-{number:03}. " * 5, "conversation_id": chat.id}
                async with asking(service, chat.account, body) as stream:
                    records = await stream.rest()
                events = await socket.until("complete")
            assert records[-1].is_done
            return number, stream.raw.decode() + json.dumps(events)

        for number, told in await asyncio.gather(*(one(chat, number) for number, chat in enumerate(talks))):
            assert told.count(f"word-{number:03}") > 1
            for other in range(20):
                assert other == number or f"word-{other:03}" not in told
            for other, chat in enumerate(talks):
                assert other == number or chat.id not in told


async def test_typing_and_answers_of_one_socket_are_not_told_to_strangers(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        chat, other = await talk(service), await talk(service)
        async with watching(chat) as socket, watching(chat) as tab, watching(other) as stranger:
            await socket.say("typing", on=True)
            await tab.until("typing")
            await socket.say("stop", message_id=str(uuid4()))
            await socket.until("error")
            for listener in (tab, stranger):
                await listener.say("ping")
                assert [event["type"] for event in await listener.until("pong")] == ["pong"]
