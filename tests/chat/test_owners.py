"""Takeovers: only of a reply whose owner still stands where it was seen to stand."""

from uuid import UUID, uuid4

from sqlalchemy import text
from tests.fixtures.service import Service

from parley.chat.owners import Owners
from parley.core.clock import SystemClock


async def test_whoever_has_come_back_is_not_taken_over(service: Service) -> None:
    account = await service.register()
    sent = await service.http.post("/chat/send", json={"message": "Hello?"}, headers=account.headers)
    conversation_id, reply_id = UUID(sent.json()["conversation_id"]), UUID(sent.json()["reply"]["id"])
    parts, other = service.parts, uuid4()
    clock, metrics = SystemClock(), parts["chat"]._metrics
    owners = Owners(parts["database"], parts["replies"], parts["tasks"], clock, boot_id=uuid4(), metrics=metrics)
    async with service.parts["database"].transaction() as db:
        await db.execute(text("INSERT INTO workers (boot_id, beat) VALUES (:other, 7)"), {"other": other})
        await db.execute(
            text("UPDATE messages SET status = 'streaming', owner = :other, ended_rev = NULL WHERE id = :id"),
            {"other": other, "id": reply_id},
        )

    assert await owners._store_claim(conversation_id, reply_id, {}) is None
    assert await owners._store_claim(conversation_id, reply_id, {other: 6}) is None, "it has beaten since"
    committed = await owners._store_claim(conversation_id, reply_id, {other: 7})

    assert committed is not None
    assert [claimed.message_id for claimed in committed.claimed] == [reply_id]
    service.parts["replies"].forget(reply_id)
