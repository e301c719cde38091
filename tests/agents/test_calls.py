"""The books: every call becomes a row soon, none is lost by a stop or an absence, and operators can read them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from tests.attacks.claims import assert_refused
from tests.conftest import Start
from tests.fixtures.guards import LoopGuard
from tests.fixtures.service import Service

from parley.agents import calls as calls_module
from parley.agents import repository
from parley.agents.calls import CallService
from parley.agents.interface import Attempt, HistoryMessage, Turn, TurnUser
from parley.auth.schemas import Identity
from parley.core.clock import SystemClock
from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable
from parley.core.ids import new_id
from parley.core.tasks import Tasks
from parley.settings import Settings

ADA = TurnUser(UUID(int=3), "Ada", "user", is_guest=False)
OPERATOR = Identity(UUID(int=3), UUID(int=4), "operator", is_guest=False, expires_at=0)
TURN = Turn(UUID(int=1), UUID(int=2), ADA, [HistoryMessage("user", "How do I return a jacket?")])
ATTEMPT = Attempt("m", "ok", 90, 20, is_estimated=False, first_token_s=0.1, total_s=0.5, cost_usd=0.00000012)


@pytest.fixture
def settings(settings_with: Any) -> Settings:
    made: Settings = settings_with()
    return made


@asynccontextmanager
async def open_calls(settings: Settings) -> AsyncIterator[CallService]:
    """Open a worker's books as the container does, and close them in its order."""
    database, tasks = Database(settings.database), Tasks()
    calls = CallService(database, SystemClock())
    try:
        tasks.keep("book calls", calls.keep)
        yield calls
    finally:
        await tasks.close(1.0)
        await calls.close()
        await database.close()


async def stored(settings: Settings) -> int:
    database = Database(settings.database)
    async with database.transaction() as db:
        count: int = await db.scalar(text("SELECT count(*) FROM model_calls"))
    await database.close()
    return count


async def until_booked(calls: CallService) -> None:
    async with asyncio.timeout(5):
        while calls.waiting:
            await asyncio.sleep(0.01)


async def listed(service: Service, **query: Any) -> dict[str, Any]:
    operator = await service.with_role("operator")
    answer = await service.http.get("/agents/-/calls", params=query, headers=operator.headers)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def test_a_call_is_read_as_it_was_recorded(service: Service) -> None:
    calls = service.parts["model_calls"]
    calls.record(replace(TURN, agent="sales"), ATTEMPT)
    await until_booked(calls)

    (call,) = (await listed(service))["data"]
    assert call.pop("id")
    assert call.pop("created_at").endswith("Z")
    assert call == {
        "conversation_id": str(UUID(int=1)),
        "message_id": str(UUID(int=2)),
        "user_id": str(UUID(int=3)),
        "agent": "sales",
        "model": "m",
        "outcome": "ok",
        "prompt_tokens": 90,
        "completion_tokens": 20,
        "is_estimated": False,
        "is_cached": False,
        "first_token_s": 0.1,
        "total_s": 0.5,
        "cost_usd": 0.00000012,
    }


async def test_an_unknown_price_stays_unknown_and_the_agent_without_a_name_is_the_default(service: Service) -> None:
    calls = service.parts["model_calls"]
    calls.record(TURN, replace(ATTEMPT, cost_usd=None, first_token_s=None, outcome="cancelled", is_estimated=True))
    await until_booked(calls)

    (call,) = (await listed(service))["data"]
    assert (call["cost_usd"], call["first_token_s"], call["agent"]) == (None, None, "support")


async def test_calls_are_found_by_conversation_or_message_newest_first_and_paged(service: Service) -> None:
    calls = service.parts["model_calls"]
    for number in range(5):
        calls.record(replace(TURN, message_id=UUID(int=10 + number)), replace(ATTEMPT, prompt_tokens=number))
    calls.record(replace(TURN, conversation_id=UUID(int=99)), ATTEMPT)
    await until_booked(calls)

    async def page(**query: Any) -> tuple[list[int], dict[str, Any]]:
        body = await listed(service, **query)
        return [call["prompt_tokens"] for call in body["data"]], body

    here = {"conversation_id": str(UUID(int=1)), "limit": 2}
    first, body = await page(**here)
    second, after = await page(**here, after=body["last_id"])
    back, _ = await page(**here, before=after["first_id"])
    assert (first, second, back) == ([4, 3], [2, 1], [4, 3])
    assert body["has_more"]
    assert (await page(message_id=str(UUID(int=12))))[0] == [2]
    assert (await page(conversation_id=str(UUID(int=1)), message_id=str(UUID(int=2))))[0] == []
    assert len((await page())[0]) == 6


@pytest.mark.parametrize("role", ["user", "guest", None])
async def test_the_books_are_for_operators(service: Service, role: str | None) -> None:
    account = None if role is None else await service.guest() if role == "guest" else await service.with_role(role)
    answer = await service.http.get("/agents/-/calls", headers=account.headers if account else {})

    assert_refused(answer, 401 if role is None else 403)


async def test_a_reply_of_the_service_is_booked(start: Start, loop_guard: LoopGuard) -> None:
    async with start(OPENAI_BASE_URL="http://127.0.0.1:1/v1", PARLEY_MODEL_RETRIES="0") as service:
        await asyncio.wait_for(service.parts["readiness"].wait(), 10)
        # A client's first call reads certificates and imports much, once a process.
        with loop_guard.paused():
            async with service.parts["agents"].run(TURN) as events:
                assert [event async for event in events]
        await until_booked(service.parts["model_calls"])

        (call,) = (await listed(service, message_id=str(TURN.message_id)))["data"]
    assert (call["outcome"], call["prompt_tokens"]) == ("model_unreachable", 0)


async def test_an_orderly_stop_stores_what_was_recorded_to_the_last_moment(settings: Settings) -> None:
    async with open_calls(settings) as calls:
        for _ in range(250):
            calls.record(TURN, ATTEMPT)
    assert await stored(settings) == 250


async def test_calls_of_tasks_that_end_with_the_service_are_stored(start: Start, settings: Settings) -> None:
    async with start() as service:
        calls = service.parts["model_calls"]

        async def reply() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.05)  # the provider's connection is closed
                calls.record(TURN, ATTEMPT)

        service.parts["tasks"].spawn("reply", reply())
        await asyncio.sleep(0)
    assert await stored(settings) == 1


async def test_many_calls_are_few_inserts(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    inserts: list[int] = []
    insert = repository.insert_calls

    async def counted(db: Any, rows: Any) -> None:
        inserts.append(len(rows))
        await insert(db, rows)

    monkeypatch.setattr(repository, "insert_calls", counted)
    async with open_calls(settings) as calls:
        for _ in range(250):
            calls.record(TURN, ATTEMPT)
        await until_booked(calls)
    assert inserts == [100, 100, 50]


async def test_calls_wait_while_postgresql_is_away_and_are_stored_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "RETRY_S", 0.02)
    insert, tries = repository.insert_calls, 0

    async def lost_answer(db: Any, rows: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise DatabaseUnavailable
        await insert(db, rows)
        if tries == 2:
            await db.commit()
            raise DatabaseUnavailable  # it was stored, and nobody was told

    monkeypatch.setattr(repository, "insert_calls", lost_answer)
    async with open_calls(settings) as calls:
        for _ in range(30):
            calls.record(TURN, ATTEMPT)
        await until_booked(calls)
        assert (tries, calls.lost) == (3, 0)
    assert await stored(settings) == 30


async def test_too_many_are_dropped_and_counted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(calls_module, "MOST_WAITING", 10)
    async with open_calls(settings) as calls:
        for _ in range(35):
            calls.record(TURN, ATTEMPT)
        assert (calls.waiting, calls.lost) == (10, 25)
    assert await stored(settings) == 10
    assert [log["reason"] for log in logs if log["event"] == "calls_not_booked"] == ["too many wait"]


async def test_a_stop_without_postgresql_ends_in_time_and_says_what_was_lost(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(calls_module, "CLOSE_S", 0.1)

    async def away(_: Any, __: Any) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(repository, "insert_calls", away)
    async with open_calls(settings) as calls:
        calls.record(TURN, ATTEMPT)
    assert calls.lost == 1
    assert [log["reason"] for log in logs if log["event"] == "calls_not_booked"] == ["the worker stopped"]


async def test_names_from_outside_are_cut_to_their_columns_and_what_is_refused_holds_up_nobody(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_calls(settings) as calls:
        calls.record(TURN, replace(ATTEMPT, model=f"a\0{'b' * 500}"))
        await until_booked(calls)
        assert (calls.lost, await stored(settings)) == (0, 1)
        calls.record(TURN, replace(ATTEMPT, prompt_tokens=2**40))
        await until_booked(calls)
        calls.record(TURN, ATTEMPT)
    assert (calls.lost, await stored(settings)) == (1, 2)


async def test_ids_follow_the_order_of_the_calls(settings: Settings) -> None:
    before = new_id()
    async with open_calls(settings) as calls:
        calls.record(TURN, ATTEMPT)
        await until_booked(calls)
        page = await calls.list_calls(
            conversation_id=None, message_id=None, limit=5, after=None, before=before, reader=OPERATOR
        )
    assert len(page.data) == 1
