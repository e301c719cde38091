"""Replies in one worker: stored, written, promoted and ended, also where a commit fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, cast

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from tests.attacks.wires import chatting
from tests.conftest import Start
from tests.fixtures.service import Account, Service

from parley.agents.interface import Finished, Source, SourcesFound, Started, TextGrew, ToolCalled
from parley.chat.writing import Writing
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
        unlucky = replies._endings._database = Unlucky(replies._endings._database, 2)
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
        await asyncio.sleep(1.0)
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


class Scripted:
    """Agents that yield what a test wants."""

    def __init__(self, *events: Any) -> None:
        self.events = events
        self.runs = 0

    @asynccontextmanager
    async def run(self, _: Any) -> AsyncIterator[Any]:
        self.runs += 1

        async def events() -> AsyncIterator[Any]:
            for event in self.events:
                yield event

        yield events()


@pytest.mark.parametrize(
    "event",
    [
        ToolCalled("call_1", "track", "Looking", {"number": 10**30}),
        Started("a" * 65, 1, "m" * 129, ""),
        SourcesFound([Source(1, "kb", cast("Any", Decimal(1)))]),
    ],
    ids=["numbers no JSON holds", "names no column holds", "sources no JSON holds"],
)
async def test_an_end_that_cannot_be_stored_is_stored_bare(start_on_socket: Start, event: Any) -> None:
    """Else its reply would break everybody who takes it over, and be asked again for ever."""
    async with chatting(start_on_socket) as service:
        account = await service.register()
        replies: Any = service.parts["replies"]
        agents = replies._agents = Scripted(TextGrew("Half of "), event, TextGrew("it."), Finished("stop"))
        body = await begin(service, account, "Where is it?")
        assert body["reply"]["status"] == "failed"
        assert body["reply"]["content"].startswith("Half of ")
        assert body["reply"]["steps"] == []
        assert agents.runs == 1
        assert not replies.running


async def test_a_reply_that_is_told_to_stop_before_its_first_step_is_stopped(start_on_socket: Start) -> None:
    """A task that is cancelled before it runs never comes to its `finally`."""
    async with chatting(start_on_socket) as service:
        account = await service.register()
        replies: Any = service.parts["replies"]
        start = replies._start

        def start_and_stop(claimed: Any) -> None:
            start(claimed)
            replies.end_early(claimed.message_id, "stopped")

        replies._start = start_and_stop
        body = await begin(service, account, "endless")
        assert body["reply"]["status"] == "stopped"
        assert not replies.running


async def test_a_tape_that_lost_its_place_ends_no_attempt_but_its_own(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        account = await service.register()
        replies: Any = service.parts["replies"]
        fences = []
        add = replies._replicator.add

        def keep(tape: Any, *, conversation_id: Any, fenced: Any) -> None:
            fences.append(fenced)
            add(tape, conversation_id=conversation_id, fenced=fenced)

        replies._replicator.add = keep
        first = await begin(service, account, "One")
        await ask(service, account, "endless", first["conversation_id"])
        running: Any = next(iter(replies.running.values()))
        fences[0]()
        assert not running.why
        message_id = running.claimed.message_id
        anew = replies._running[message_id] = Writing(running.claimed, running.tape, 0.0)
        fences[1]()  # of the attempt before
        assert (anew.why, running.why) == (None, None)
        replies._running[message_id] = running
        fences[1]()
        assert running.why == "fenced"
        async with asyncio.timeout(PATIENCE_S):
            while replies.running:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("on_busy", ["queue", "reject"])
async def test_twins_in_a_conversation_are_one_whatever_is_asked_of_the_busy(
    start_on_socket: Start, on_busy: str
) -> None:
    """What one twin has just done stands in the way of the other: it is a repeat for all that."""
    async with chatting(start_on_socket, pace_s=0.02, PARLEY_CHAT_QUEUE_MAX="1") as service:
        account = await service.register()
        conversation_id = (await begin(service, account, "One"))["conversation_id"]
        if on_busy == "queue":
            await ask(service, account, "A question that takes a while to repeat, a long while", conversation_id)
        answers = await asyncio.gather(
            *(ask(service, account, "Two", conversation_id, client_id="twin", on_busy=on_busy) for _ in range(10))
        )
        assert {answer.status_code for answer in answers} <= {200, 202}, [answer.text for answer in answers]
        assert len({answer.json()["reply"]["id"] for answer in answers}) == 1


async def test_a_question_nobody_answered_is_answered_anew_in_place_of_nothing(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        account, operator = await service.register(), await service.with_role("operator")
        first = await begin(service, account, "One")
        path = f"/chat/conversations/{first['conversation_id']}"
        assert (await service.http.patch(path, json={"mode": "human"}, headers=operator.headers)).is_success
        asked = await ask(service, account, "Two", first["conversation_id"])
        assert asked.json()["reply"] is None
        assert (await service.http.patch(path, json={"mode": "ai"}, headers=operator.headers)).is_success
        again = await service.http.post(
            f"/chat/messages/{asked.json()['message']['id']}/regenerate", json={}, headers=account.headers
        )
        assert again.status_code == 202, again.text
        assert again.json()["reply"]["replaces"] is None
        found = await at_rest(service, account, first["conversation_id"])
        assert found[-1]["content"] == "Two"


async def test_a_message_is_as_long_as_this_service_takes_it(start_on_socket: Start) -> None:
    async with chatting(start_on_socket, PARLEY_CHAT_MESSAGE_MAX_BYTES="40") as service:
        account = await service.register()
        first = await begin(service, account, "é" * 20)
        answer = await ask(service, account, "é" * 20 + "!", first["conversation_id"])
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "too_long")
        assert "40" in answer.json()["error"]["message"]


async def test_a_worker_says_goodbye_to_all_before_it_ends_everything(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        connections: Any = service.parts["connections"]
        said: list[str] = []
        end = connections.end_everything

        async def drain(_: float) -> None:
            await asyncio.sleep(0.2)
            said.append("goodbyes")

        def end_everything() -> None:
            said.append("the end")
            end()

        connections.drain, connections.end_everything = drain, end_everything
        service.parts["drain"].begin()
        await service.parts["drain"].complete(5.0)
        assert said == ["goodbyes", "the end"]
