"""Takeovers: only of a reply whose owner still stands where it was seen to stand, and only so often."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from tests.fixtures.service import Service

from parley.chat.owner_queries import Mine
from parley.chat.owners import Owners
from parley.core.clock import SystemClock
from parley.core.errors import DatabaseUnavailable

OTHER = uuid4()
SEEN = 7
ORPHANED = text(
    "UPDATE messages SET status = :status, owner = :other, takeovers = :takeovers, ended_rev = NULL WHERE id = :id"
)


async def answered(service: Service) -> tuple[UUID, UUID]:
    """Return a conversation and the reply in it."""
    account = await service.register()
    sent = await service.http.post("/chat/send", json={"message": "Hello?"}, headers=account.headers)
    return UUID(sent.json()["conversation_id"]), UUID(sent.json()["reply"]["id"])


async def orphan(service: Service, reply_id: UUID, status: str, takeovers: int) -> None:
    """Let another worker have it, whose beat stands where it was seen."""
    async with service.parts["database"].transaction() as db:
        beat = text("INSERT INTO workers (boot_id, beat) VALUES (:other, :seen) ON CONFLICT DO NOTHING")
        await db.execute(beat, {"other": OTHER, "seen": SEEN})
        found = {"status": status, "other": OTHER, "takeovers": takeovers, "id": reply_id}
        await db.execute(ORPHANED, found)


def owners_of(service: Service) -> Owners:
    parts = service.parts
    clock, metrics = SystemClock(), parts["chat"]._metrics
    return Owners(parts["database"], parts["replies"], parts["tasks"], clock, boot_id=uuid4(), metrics=metrics)


async def test_whoever_has_come_back_is_not_taken_over(service: Service) -> None:
    conversation_id, reply_id = await answered(service)
    owners = owners_of(service)
    await orphan(service, reply_id, "streaming", 0)
    assert await owners._store_claim(conversation_id, reply_id, {}) is None
    assert await owners._store_claim(conversation_id, reply_id, {OTHER: SEEN - 1}) is None, "it has beaten since"
    committed = await owners._store_claim(conversation_id, reply_id, {OTHER: SEEN})
    assert committed is not None
    assert [claimed.message_id for claimed in committed.claimed] == [reply_id]
    service.parts["replies"].forget(reply_id)


async def test_a_reply_that_is_to_stop_is_stopped_however_often_its_writers_died(service: Service) -> None:
    """Others end as failed after three: what kills everybody who writes it is not asked again."""
    conversation_id, reply_id = await answered(service)
    owners = owners_of(service)
    for status, takeovers, is_claimed in (("stopping", 3, True), ("streaming", 3, False), ("stopping", 6, False)):
        await orphan(service, reply_id, status, takeovers)
        committed = await owners._store_claim(conversation_id, reply_id, {OTHER: SEEN})
        assert committed is not None
        assert bool(committed.claimed) is is_claimed, status
        service.parts["replies"].forget(reply_id)


async def test_a_reply_that_broke_its_task_counts_as_taken_over(service: Service) -> None:
    """Nothing else would end one that breaks whoever writes it; a commit that was in doubt does not count."""
    _, reply_id = await answered(service)
    owners = owners_of(service)
    owners._boot_id = OTHER
    for broken, takeovers in ((set[UUID](), 1), ({reply_id}, 2)):
        await orphan(service, reply_id, "streaming", 1)
        service.parts["replies"].broken |= broken
        await owners._release([(reply_id, 1)])
        async with service.parts["database"].transaction() as db:
            rows = await db.execute(text("SELECT owner, takeovers FROM messages WHERE id = :id"), {"id": reply_id})
        assert rows.one() == (None, takeovers)
        assert service.parts["replies"].broken == set()


class Failing:
    """A database whose transactions end otherwise than they should."""

    def __init__(self, before: Callable[[], None], at_commit: Exception, transaction: Any) -> None:
        self._before, self._at_commit, self._transaction = before, at_commit, transaction

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        self._before()
        async with self._transaction() as db:
            yield db
            raise self._at_commit


@pytest.mark.parametrize("error", [DatabaseUnavailable(), RuntimeError("on purpose")])
async def test_a_claim_that_is_not_committed_leaves_no_place_taken(service: Service, error: Exception) -> None:
    conversation_id, reply_id = await answered(service)
    owners, replies = owners_of(service), service.parts["replies"]
    await orphan(service, reply_id, "streaming", 0)
    owners._database = Failing(lambda: None, error, owners._database.transaction)  # type: ignore[assignment]

    with pytest.raises(type(error)):
        await owners._store_claim(conversation_id, reply_id, {OTHER: SEEN})
    assert reply_id not in replies.running


async def test_a_claim_that_fails_forgets_nothing_that_somebody_else_expects(service: Service) -> None:
    """It was promoted here, meanwhile."""
    conversation_id, reply_id = await answered(service)
    owners, replies = owners_of(service), service.parts["replies"]
    owners._database = Failing(  # type: ignore[assignment]
        lambda: replies.expect(reply_id), DatabaseUnavailable(), owners._database.transaction
    )

    await owners._claim(conversation_id, reply_id, {})
    assert reply_id in replies.running
    replies.forget(reply_id)


async def test_a_reply_that_ends_during_a_look_is_not_released(service: Service) -> None:
    """Neither running nor known is what a broken task leaves."""
    conversation_id, reply_id = await answered(service)
    owners, released = owners_of(service), list[tuple[UUID, int]]()
    row = Mine(reply_id, conversation_id, 1, is_stopping=False)

    async def release(attempts: Any) -> None:
        released.extend(attempts)

    owners._release = release  # type: ignore[method-assign]
    for running, expected in (({reply_id: None}, []), ({}, [(reply_id, 1)])):
        owners._mind([row], running)
        await asyncio.sleep(0.01)
        assert released == expected
