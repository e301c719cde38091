"""The running summary, through a whole worker: a provider on a socket, PostgreSQL, Redis, budgets and books."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text
from tests.conftest import Start
from tests.fixtures.guards import LoopGuard
from tests.fixtures.service import Service

from parley.agents import privacy as of_agents
from parley.agents import repository
from parley.agents.demo.pieces import Finish, Piece, Text, Usage
from parley.agents.demo.server import open_demo
from parley.agents.demo.traffic import Traffic
from parley.agents.interface import Event, Finished, HistoryMessage, TextGrew, Turn, TurnUser
from parley.agents.prompts.rendering import read_prompt
from parley.agents.schemas import AgentCommand
from parley.auth.schemas import Identity
from parley.chat import privacy as of_chat
from parley.core.clock import SystemClock
from parley.core.ids import new_id

INSTRUCTIONS = read_prompt("summary")
ADA = TurnUser(UUID(int=3), "Ada", "user", is_guest=False)
BOB = TurnUser(UUID(int=4), "Bob", "user", is_guest=False)
SLOW = "script-tokens?count=4&pause_s=0.1"
PERSON = "INSERT INTO users (id, name, role) VALUES (:who, '', 'user') ON CONFLICT DO NOTHING"
LEFT_OUT = 6  # of a long conversation, at least


def conversation(messages: int, conversation_id: UUID | None = None) -> Turn:
    """Return a turn behind so many messages of about 200 tokens; a dozen of them fit into a prompt."""
    history = [
        HistoryMessage("user" if seq % 2 else "assistant", f"This is number {seq}. " + "word " * 160, seq=seq)
        for seq in range(1, messages + 1)
    ]
    asked = HistoryMessage("user", "And now?", seq=messages + 1)
    return Turn(conversation_id or new_id(), new_id(), ADA, [*history, asked], model="strong")


@dataclass
class Desk:
    """A worker whose provider notes what it is asked."""

    service: Service
    traffic: Traffic
    bodies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def summaries_asked(self) -> int:
        return sum(call.model.startswith(("small", "script-")) for call in self.traffic.calls)

    async def is_summary_asked(self) -> bool:
        return bool(self.summaries_asked)

    async def begin(self, turn: Turn) -> None:
        """Have the conversation that a summary belongs to."""
        async with self.service.parts["database"].transaction() as db:
            await db.execute(text(PERSON), {"who": turn.user.id})
            it = "INSERT INTO conversations (id, owner_id) VALUES (:id, :owner) ON CONFLICT DO NOTHING"
            await db.execute(text(it), {"owner": turn.user.id, "id": turn.conversation_id})

    async def hear(self, turn: Turn, who: TurnUser) -> None:
        """Have the first message of it, said by somebody else."""
        async with self.service.parts["database"].transaction() as db:
            said = {"id": new_id(), "conversation": turn.conversation_id, "who": who.id}
            await db.execute(text(PERSON), {"who": who.id})
            await db.execute(
                text(
                    "INSERT INTO messages (id, conversation_id, seq, rev, role, content, author_id)"
                    " VALUES (:id, :conversation, 1, 1, 'user', 'This is number 1.', :who)"
                ),
                said,
            )
            await db.execute(
                text("UPDATE conversations SET rev = 1, last_seq = 1 WHERE id = :conversation"),
                {"conversation": turn.conversation_id},
            )

    async def ask(self, turn: Turn) -> list[Event]:
        await self.begin(turn)
        async with self.service.parts["agents"].run(turn) as events, asyncio.timeout(10):
            return [event async for event in events]

    async def set_agent(self, *, cheap: str = "small", context_tokens: int = 3_000) -> None:
        command = AgentCommand.model_validate(
            {
                "prompt": "Be kind.",
                "models": {"cheap": cheap, "strong": "large"},
                "limits": {"context_tokens": context_tokens, "max_tokens": 64},
            }
        )
        await self.service.parts["agent_service"].write_agent("support", command, ADA.id)

    async def find(self, turn: Turn) -> tuple[int, str] | None:
        async with self.service.parts["database"].transaction() as db:
            found = await repository.find_summary(db, turn.conversation_id)
        return None if found is None else (found[0], found[1])

    async def store(self, turn: Turn, through_seq: int, content: str) -> bool:
        await self.begin(turn)
        async with self.service.parts["database"].transaction() as db:
            return await repository.store_summary(db, turn.conversation_id, through_seq, content, turn.rev)

    def prompts(self, model: str) -> list[str]:
        """What the provider was shown, all messages of a call in one."""
        return [
            "\n".join(part["content"] for part in body["messages"]) for body in self.bodies if body["model"] == model
        ]


def talk(bodies: list[dict[str, Any]]) -> Callable[[dict[str, Any]], Iterator[Piece]]:
    def reply(body: dict[str, Any]) -> Iterator[Piece]:
        bodies.append(body)
        is_summary = body["messages"][0]["content"] == INSTRUCTIONS
        yield Text(f"They spoke {len(bodies)} times." if is_summary else "Good morning.")
        yield Finish("stop", Usage(90 if is_summary else 2_900, 4))

    return reply


@asynccontextmanager
async def open_desk(start: Start, guard: LoopGuard, **settings: str) -> AsyncIterator[Desk]:
    traffic, bodies = Traffic(SystemClock()), list[dict[str, Any]]()
    async with (
        open_demo(reply=talk(bodies), traffic=traffic) as url,
        start(PARLEY_MODEL_BASE_URL=url, PARLEY_MODEL_API_KEY="key", PARLEY_MODEL_NAME="large", **settings) as service,
    ):
        desk = Desk(service, traffic, bodies)
        with guard.paused():  # a client's first call imports much, once a process
            await desk.set_agent()
            await desk.ask(replace(conversation(0), user=BOB))
        traffic.calls.clear()
        bodies.clear()
        yield desk


Open = Callable[..., Any]


@pytest.fixture
def desk_with(start: Start, loop_guard: LoopGuard) -> Open:
    return lambda **settings: open_desk(start, loop_guard, **settings)


async def until(is_so: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(5):
        while not await is_so():
            await asyncio.sleep(0.01)


def folding() -> bool:
    return any(task.get_name() == "fold summary" for task in asyncio.all_tasks())


async def settled() -> None:
    """Wait until no summary is being made."""

    async def is_settled() -> bool:
        return not folding()

    await until(is_settled)


async def test_what_no_longer_fits_is_in_the_next_prompt_as_a_summary(desk_with: Open) -> None:
    turn = conversation(20)
    async with desk_with() as desk:
        assert isinstance((await desk.ask(turn))[-1], Finished)
        await settled()

        found = await desk.find(turn)
        assert found is not None
        assert LEFT_OUT <= found[0] <= 18
        assert found[1] == "They spoke 2 times."
        [asked] = desk.prompts("small")
        assert 'customer: "This is number 1. word' in asked
        assert f'"This is number {found[0]}. word' in asked
        assert f'"This is number {found[0] + 1}. word' not in asked

        await desk.ask(conversation(20, turn.conversation_id))
        first, second = desk.prompts("large")
        assert "This is number 1. " not in first
        assert "They spoke" not in first
        assert "They spoke 2 times." in second
        # Nothing is left out that is not in the summary.
        assert not folding()
        assert desk.summaries_asked == 1


async def test_the_next_summary_is_made_of_the_last_one_and_what_came_since(desk_with: Open) -> None:
    turn = conversation(20)
    async with desk_with() as desk:
        await desk.store(turn, 4, "They spoke of boots.")
        await desk.ask(turn)
        await settled()

        [asked] = desk.prompts("small")
        assert 'summary so far: "They spoke of boots."' in asked
        assert "This is number 4. " not in asked
        assert "This is number 5. " in asked
        found = await desk.find(turn)
        assert found is not None
        assert found[0] > LEFT_OUT


async def test_a_short_conversation_has_no_summary_and_looks_for_none(desk_with: Open, database_url: str) -> None:
    turn = conversation(6)
    async with desk_with(PARLEY_MODEL_SUMMARY_FIND_S="3") as desk, locked(database_url):
        began = time.monotonic()
        await desk.ask(turn)
        assert time.monotonic() - began < 1.5
        await settled()
    assert desk.summaries_asked == 0


@asynccontextmanager
async def begun(database_url: str, statement: str, *values: object) -> AsyncIterator[asyncpg.Connection]:
    """Do something that is committed at the end of the block."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(statement, *values)
            yield connection
    finally:
        await connection.close()


def locked(database_url: str) -> AbstractAsyncContextManager[object]:
    """Let every query on summaries hang."""
    return begun(database_url, "LOCK TABLE conversation_summaries IN ACCESS EXCLUSIVE MODE")


async def test_a_reply_goes_on_without_a_summary_that_is_late(
    desk_with: Open, database_url: str, logs: list[dict[str, Any]]
) -> None:
    turn = conversation(20)
    async with desk_with(PARLEY_MODEL_SUMMARY_FIND_S="0.1") as desk:
        await desk.store(turn, 10, "They spoke of boots.")
        async with locked(database_url):
            began = time.monotonic()
            assert isinstance((await desk.ask(turn))[-1], Finished)
            assert time.monotonic() - began < 1.0
        await settled()

        assert "They spoke" not in desk.prompts("large")[0]
        assert [event for event in logs if event["event"] == "summary_late"]
        # It looks again before it asks: all that was left out is known.
        assert desk.summaries_asked == 0
        assert await desk.find(turn) == (10, "They spoke of boots.")


async def test_a_reply_goes_on_where_there_is_no_such_table(desk_with: Open) -> None:
    async with desk_with() as desk:
        async with desk.service.parts["database"].transaction() as db:
            await db.execute(text("DROP TABLE conversation_summaries"))

        assert isinstance((await desk.ask(conversation(20)))[-1], Finished)
        await settled()


async def test_replies_at_once_make_one_summary(desk_with: Open) -> None:
    turn = conversation(20)
    async with desk_with() as desk:
        await desk.set_agent(cheap=SLOW)
        await asyncio.gather(*(desk.ask(conversation(20, turn.conversation_id)) for _ in range(8)))
        await settled()

        assert desk.summaries_asked == 1
        assert await desk.find(turn) is not None


async def test_a_worker_makes_so_many_at_a_time(desk_with: Open) -> None:
    turns = [conversation(20) for _ in range(6)]
    async with desk_with(PARLEY_MODEL_SUMMARIES="2") as desk:
        await desk.set_agent(cheap=SLOW)
        await asyncio.gather(*map(desk.ask, turns))
        await settled()

        assert desk.summaries_asked == 2


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("script-status?status=500", "model_broken"),
        ("script-hang-first", "model_deadline"),
        ("script-truncate-close", "model_truncated"),
        ("script-tokens?count=0&pause_s=0.01", "model_deadline"),
        ("script-flood", "model_too_much"),
        ("script-tokens?count=5000", "model_too_much"),
        ("script-tokens?count=3&finish=content_filter", "model_empty"),
    ],
)
async def test_a_summary_that_fails_changes_nothing_and_is_tried_again(
    desk_with: Open, logs: list[dict[str, Any]], model: str, code: str
) -> None:
    turn = conversation(20)
    deadline_s = "0.4" if code == "model_deadline" else "10"
    async with desk_with(PARLEY_MODEL_SUMMARY_S=deadline_s, PARLEY_MODEL_RETRIES="0") as desk:
        await desk.set_agent(cheap=model)
        await desk.store(turn, 1, "They spoke of boots.")
        assert isinstance((await desk.ask(turn))[-1], Finished)
        await settled()
        assert await desk.find(turn) == (1, "They spoke of boots.")
        assert [event["code"] for event in logs if event["event"] == "summary_failed"] == [code]
        assert desk.service.parts["tasks"].crashes == 0

        await desk.set_agent()
        await desk.ask(turn)
        await settled()
        found = await desk.find(turn)
        assert found is not None
        assert found[0] > LEFT_OUT


async def test_a_summary_never_reaches_less_far_than_before(desk_with: Open) -> None:
    turn = conversation(20)
    async with desk_with() as desk:
        await desk.set_agent(cheap=SLOW)
        await desk.ask(turn)

        await until(desk.is_summary_asked)
        # Another worker is faster, and further.
        assert await desk.store(turn, 1_000, "Far ahead.")
        await settled()

        assert await desk.find(turn) == (1_000, "Far ahead.")
        assert not await desk.store(turn, 1_000, "Again.")
        assert not await desk.store(turn, 999, "Behind.")
        assert await desk.store(turn, 1_001, "Ahead.")
        assert await desk.find(turn) == (1_001, "Ahead.")


async def delete(desk: Desk, turn: Turn) -> None:
    owner = Identity(turn.user.id, new_id(), "user", is_guest=False, expires_at=0)
    await desk.service.parts["conversations"].delete(owner, turn.conversation_id)


async def erase_owner(desk: Desk, turn: Turn) -> None:
    """As the erasure of a person does it, once nobody can write for them."""
    async with desk.service.parts["database"].transaction() as db:
        removed = await of_chat.remove(db, await of_chat.lock_own(db, turn.user.id, 1), most_messages=1)
        await of_agents.forget_conversations(db, removed.conversations)


async def erase_somebody_else(desk: Desk, turn: Turn) -> None:
    """One who has said something in it; the conversation stays."""
    async with desk.service.parts["database"].transaction() as db:
        assert await of_chat.erase_in(db, turn.conversation_id, BOB.id) == 1
        await of_agents.drop_summaries(db, [turn.conversation_id])


@pytest.mark.parametrize("remove", [delete, erase_owner, erase_somebody_else])
async def test_a_summary_whose_conversation_goes_meanwhile_is_not_kept(
    desk_with: Open, logs: list[dict[str, Any]], remove: Callable[[Desk, Turn], Awaitable[None]]
) -> None:
    turn = replace(conversation(20), rev=1)
    async with desk_with() as desk:
        await desk.set_agent(cheap=SLOW)
        await desk.begin(turn)
        await desk.hear(turn, BOB)
        await desk.ask(turn)
        await until(desk.is_summary_asked)
        await remove(desk, turn)
        assert folding()
        await settled()

        assert await desk.find(turn) is None
        assert desk.service.parts["tasks"].crashes == 0
        assert [event["is_stored"] for event in logs if event["event"].startswith("summary")] == [False]


async def test_a_summary_waits_for_who_is_removing_its_conversation(desk_with: Open, database_url: str) -> None:
    turn = conversation(20)
    deletion = "UPDATE conversations SET deleted_at = now() WHERE id = $1"
    async with desk_with() as desk:
        await desk.set_agent(cheap=SLOW)
        await desk.ask(turn)
        async with begun(database_url, deletion, turn.conversation_id) as deleting:

            async def has_come() -> bool:
                waiting = "SELECT count(*) FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
                return not folding() or bool(await deleting.fetchval(waiting))

            await until(has_come)
        await settled()

        assert await desk.find(turn) is None


async def test_whoever_leaves_takes_no_summary_along_and_waits_for_none(desk_with: Open) -> None:
    turn, left_early = conversation(20), conversation(20)
    async with desk_with() as desk:
        await desk.set_agent(cheap="script-tokens?count=20&pause_s=0.1")
        await desk.begin(turn)
        async with desk.service.parts["agents"].run(left_early) as events:
            async for event in events:
                if isinstance(event, TextGrew):
                    break
        async with desk.service.parts["agents"].run(turn) as events:
            async for event in events:
                if isinstance(event, Finished):
                    assert desk.summaries_asked == 0
                    began = time.monotonic()
                    break
        assert time.monotonic() - began < 1.6
        assert await desk.find(turn) is None
        await settled()

        assert await desk.find(turn) is not None
        # A reply that was not finished has no summary made.
        assert await desk.find(left_early) is None
        assert desk.summaries_asked == 1


async def test_a_summary_is_booked_on_the_user_who_asked(desk_with: Open) -> None:
    turn = conversation(20)
    async with desk_with() as desk:
        await desk.ask(turn)
        await settled()

        async def booked() -> list[tuple[Any, ...]]:
            query = text(
                "SELECT model, outcome, user_id, completion_tokens FROM model_calls WHERE conversation_id = :id"
            )
            async with desk.service.parts["database"].transaction() as db:
                rows = (await db.execute(query, {"id": turn.conversation_id})).all()
            return sorted(tuple(row) for row in rows)

        async def are_booked() -> bool:
            return len(await booked()) == 2

        await until(are_booked)
        assert await booked() == [("large", "ok", ADA.id, 4), ("small", "ok", ADA.id, 4)]


async def test_a_user_whose_budget_is_used_up_gets_no_summary_either(
    desk_with: Open, logs: list[dict[str, Any]]
) -> None:
    turn = conversation(20)
    # Enough for the one reply.
    async with desk_with(PARLEY_MODEL_BUDGET_TOKENS_PER_DAY="4000") as desk:
        last = (await desk.ask(turn))[-1]
        assert isinstance(last, Finished)
        await settled()

        assert desk.summaries_asked == 0
        assert [event["code"] for event in logs if event["event"] == "summary_failed"] == ["budget_exceeded"]
        assert await desk.find(turn) is None
