"""Replies in one worker: stored, written, promoted and ended, also where a commit fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from sqlalchemy.ext.asyncio import AsyncSession
from tests.attacks.wires import chatting
from tests.conftest import Start
from tests.fixtures.service import Account, Service

from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable

PATIENCE_S = 10.0


async def ask(service: Service, account: Account, content: str, conversation_id: str, **more: Any) -> httpx.Response:
    return await service.http.post(
        f"/chat/conversations/{conversation_id}/messages", json={"content": content, **more}, headers=account.headers
    )


async def messages(service: Service, account: Account, conversation_id: str) -> list[dict[str, Any]]:
    answer = await service.http.get(f"/chat/conversations/{conversation_id}/messages", headers=account.headers)
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


async def at_rest(service: Service, account: Account, conversation_id: str) -> list[dict[str, Any]]:
    """Return the messages once none is being written."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await messages(service, account, conversation_id)
            if found and all(one["status"] in {"complete", "stopped", "failed"} for one in found):
                return found
            await asyncio.sleep(0.05)


async def begin(service: Service, account: Account, content: str, **more: Any) -> dict[str, Any]:
    answer = await service.http.post("/chat/send", json={"message": content, **more}, headers=account.headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_first_question_is_stored_with_its_reply_and_answered(start_on_socket: Start) -> None:
    """The short way: one statement for the beginning, one for the end."""
    async with chatting(start_on_socket) as service:
        account = await service.register()
        body = await begin(service, account, "Good morning", client_id="one")
        assert [body["message"]["content"], body["reply"]["content"]] == ["Good morning", "Good morning"]
        assert [body["message"]["seq"], body["reply"]["seq"]] == [1, 2]
        assert [body["message"]["rev"], body["reply"]["rev"]] == [1, 3]
        again = await begin(service, account, "Good morning", client_id="one")
        assert again == body
        refused = await service.http.post(
            "/chat/send", json={"message": "Good night", "client_id": "one"}, headers=account.headers
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "client_id_reused")


async def test_twins_that_begin_a_conversation_are_one(start_on_socket: Start) -> None:
    """Twenty at once, none of which names a conversation."""
    async with chatting(start_on_socket) as service:
        account = await service.register()
        bodies = await asyncio.gather(*(begin(service, account, "Hello", client_id="twin") for _ in range(20)))
        assert len({(body["conversation_id"], body["reply"]["id"]) for body in bodies}) == 1


async def test_the_second_answer_knows_what_was_said_before(start_on_socket: Start) -> None:
    """The turn of a conversation that goes on is read from its rows."""
    async with chatting(start_on_socket, pace_s=0.01) as service:
        account = await service.register()
        first = await begin(service, account, "One")
        turns: list[Any] = []
        runner: Any = service.parts["replies"]._agents
        run = runner.run

        def seen(turn: Any) -> Any:
            turns.append(turn)
            return run(turn)

        runner.run = seen
        await ask(service, account, "Two", first["conversation_id"])
        await at_rest(service, account, first["conversation_id"])
        assert [(one.role, one.content, one.seq) for one in turns[0].history] == [
            ("user", "One", 1),
            ("assistant", "One", 2),
            ("user", "Two", 3),
        ]


async def test_a_reply_that_waits_begins_when_the_one_before_it_ends(start_on_socket: Start) -> None:
    """The long way: the end and the promotion are one transaction."""
    async with chatting(start_on_socket, pace_s=0.02) as service:
        account = await service.register()
        first = await begin(service, account, "One")
        conversation_id = first["conversation_id"]
        for number in range(3):
            answer = await ask(service, account, f"Question {number}", conversation_id)
            assert answer.status_code == 202
        found = await at_rest(service, account, conversation_id)
        assert [one["content"] for one in found if one["role"] == "assistant"] == [
            "One", "Question 0", "Question 1", "Question 2",
        ]  # fmt: skip


async def test_a_commit_that_fails_loses_neither_the_end_nor_the_reply_behind_it(start_on_socket: Start) -> None:
    """PostgreSQL goes away between the end of a reply, the promotion of the next, and their commit."""
    async with chatting(start_on_socket, pace_s=0.02) as service:
        account = await service.register()
        first = await begin(service, account, "One")
        conversation_id = first["conversation_id"]
        await ask(service, account, "A question that takes a while to repeat", conversation_id)
        await ask(service, account, "The one behind it", conversation_id)
        replies: Any = service.parts["replies"]
        unlucky = replies._database = Unlucky(replies._database, 2)
        found = await at_rest(service, account, conversation_id)
        assert unlucky.left == 0
        assert [one["status"] for one in found] == ["complete"] * 6
        assert found[-1]["content"] == "The one behind it"
        assert not service.parts["replies"].running


class Unlucky:
    """The database of a writer: its next transactions fail at their commit."""

    def __init__(self, database: Database, left: int) -> None:
        self.database, self.left = database, left
        self.fetch = database.fetch

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        async with self.database.transaction() as session:
            yield session
            if self.left:
                self.left -= 1
                raise DatabaseUnavailable


async def test_each_reply_leaves_one_line_without_what_was_said(
    start_on_socket: Start, logs: list[dict[str, Any]]
) -> None:
    """How it ended and what it took, also where it was stopped in the middle."""
    async with chatting(start_on_socket, pace_s=0.01) as service:
        account = await service.register()
        first = await begin(service, account, "Canary of a question")
        asked = await ask(service, account, "endless", first["conversation_id"])
        await asyncio.sleep(0.3)
        reply_id = asked.json()["reply"]["id"]
        await service.http.post(f"/chat/messages/{reply_id}/stop", headers=account.headers)
        await at_rest(service, account, first["conversation_id"])

    whole, stopped = [line for line in logs if line["event"] == "reply_ended"]
    assert (whole["status"], whole["finish_reason"], whole["error"]) == ("complete", "stop", None)
    assert (whole["agent"], whole["model"], whole["attempt"], whole["takeover"]) == ("support", "gpt-5-mini", 1, False)
    assert (whole["calls"], whole["input_tokens"], whole["output_tokens"]) == (1, 1, 1)
    assert 0 < whole["first_token_s"] <= whole["total_s"]
    assert (whole["conversation_id"], whole["message_id"]) == (first["conversation_id"], first["reply"]["id"])
    assert (stopped["status"], stopped["message_id"], stopped["calls"]) == ("stopped", reply_id, 1)
    assert stopped["output_tokens"] > 0
    assert "Canary" not in str(logs)
