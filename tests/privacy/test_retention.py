"""What is old goes in bounded steps: what is young, live or held stays, and a run that was stopped goes on."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
import pytest_asyncio
from tests.fixtures.service import Service

from parley.core.clock import SystemClock
from parley.privacy import retention
from parley.privacy.retention import Ages, Retention

ALL = Ages(timedelta(days=30), timedelta(days=90), timedelta(days=7), timedelta(days=365))


class Past:
    """Puts rows where time would have brought them."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._db = connection

    async def count(self, table: str, where: str = "true", *values: object) -> int:
        return int(await self._db.fetchval(f"SELECT count(*) FROM {table} WHERE {where}", *values))

    async def execute(self, statement: str, *values: object) -> None:
        await self._db.execute(statement, *values)

    async def conversation(self, owner_id: str, idle_days: float, *, messages: int = 2, **columns: object) -> str:
        """Make a conversation whose last word was so long ago, with all that hangs on one."""
        id_ = str(uuid.uuid4())
        names, places = "".join(f", {name}" for name in columns), "".join(f", ${n}" for n in range(4, 4 + len(columns)))
        await self._db.execute(
            f"INSERT INTO conversations (id, owner_id, title, active_at{names})"
            f" VALUES ($1, $2, 'old', now() - make_interval(secs => $3){places})",
            *(id_, owner_id, idle_days * 86_400, *columns.values()),
        )
        await self._db.execute(
            "INSERT INTO messages (id, conversation_id, seq, rev, role, content, author_id)"
            " SELECT gen_random_uuid(), $1, n, n, 'user', 'words', $2 FROM generate_series(1, $3) n",
            *(id_, owner_id, messages),
        )
        await self._db.execute("INSERT INTO participants (conversation_id, user_id) VALUES ($1, $2)", id_, owner_id)
        await self._db.execute(
            "INSERT INTO conversation_summaries (conversation_id, through_seq, content) VALUES ($1, 1, 'sum')", id_
        )
        await self._db.execute(
            "INSERT INTO model_calls (id, conversation_id, message_id, user_id, agent, model, outcome, prompt_tokens,"
            " completion_tokens, is_estimated, is_cached, total_s, cost_usd) VALUES (gen_random_uuid(), $1,"
            " gen_random_uuid(), $2, 'a', 'm', 'ok', 10, 5, false, false, 1, 0.5)",
            *(id_, owner_id),
        )
        return id_


@pytest_asyncio.fixture
async def past(database_url: str) -> AsyncIterator[Past]:
    connection = await asyncpg.connect(database_url)
    yield Past(connection)
    await connection.close()


async def run(service: Service, ages: Ages = ALL, *, is_dry: bool = False) -> Counter[str]:
    """Run it once and return what it counted."""
    work = Retention(service.parts["database"], SystemClock(), is_dry=is_dry)
    await work.run(ages)
    return +work.counts


async def test_idle_conversations_are_archived_and_then_deleted(service: Service, past: Past) -> None:
    owner = (await service.register()).user["id"]
    young, idle, old, live = [await past.conversation(owner, idle_days=days) for days in (29, 31, 91, 200)]
    await past.execute(
        "INSERT INTO messages (id, conversation_id, seq, rev, role, status)"
        " VALUES (gen_random_uuid(), $1, 9, 9, 'assistant', 'streaming')",
        live,
    )
    told = await run(service, is_dry=True)
    assert await past.count("conversations") == 4, "a dry run changes nothing"
    assert await past.count("conversations", "archived_at IS NOT NULL") == 0

    counts = await run(service)

    assert {name: told[name] for name in ("conversations_deleted", "messages")} == {
        "conversations_deleted": 1,
        "messages": 2,
    }
    assert (counts["conversations_archived"], counts["conversations_deleted"], counts["messages"]) == (1, 1, 2)
    assert await past.count("conversations", "archived_at IS NOT NULL AND rev = meta_rev AND rev = 1") == 1
    assert await past.count("conversations", "archived_at IS NOT NULL AND id = $1", idle) == 1
    assert await past.count("conversations", "id IN ($1, $2, $3)", young, idle, live) == 3
    for table in ("messages", "participants", "conversation_summaries", "model_calls"):
        assert await past.count(table, "conversation_id = $1", old) == 0
    # The books keep what it cost.
    nobody = str(uuid.UUID(int=0))
    assert await past.count("model_calls", "user_id = $1 AND message_id = $1 AND cost_usd = 0.5", nobody) == 1
    assert await run(service) == Counter(), "nothing is done twice"


async def test_what_is_left_of_deleted_conversations_goes_after_its_time(service: Service, past: Past) -> None:
    owner = (await service.register()).user["id"]
    lately, long_ago = [await past.conversation(owner, idle_days=10) for _ in range(2)]
    for id_, days in ((lately, 6), (long_ago, 8)):
        await past.execute(
            "UPDATE conversations SET deleted_at = now() - make_interval(days => $2) WHERE id = $1", id_, days
        )

    assert (await run(service, Ages(None, None, timedelta(days=7), None)))["conversations_deleted"] == 1

    assert await past.count("conversations", "id = $1", lately) == 1
    assert await past.count("conversations", "id = $1", long_ago) == 0


async def test_what_is_expired_goes_and_what_is_not_goes_on(service: Service, past: Past) -> None:
    ada = await service.register()
    guest, visitor, talker = [await service.guest() for _ in range(3)]
    await past.conversation(talker.user["id"], idle_days=1)
    for account in (guest, talker):
        await past.execute(
            "UPDATE sessions SET expires_at = now() - interval '2 days' WHERE user_id = $1", account.user["id"]
        )
    await past.execute(
        "INSERT INTO refresh_tokens (token_hash, session_id, expires_at)"
        " SELECT '\\x00'::bytea, id, now() - interval '2 days' FROM sessions WHERE user_id = $1",
        ada.user["id"],
    )
    await past.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
    await past.execute(
        "UPDATE audit_log SET id = '01700000-0000-7000-8000-000000000000' WHERE subject_id = $1", guest.user["id"]
    )
    await past.execute("ALTER TABLE audit_log ENABLE TRIGGER USER")

    counts = await run(service)

    assert counts == Counter(sessions=2, refresh_tokens=1, people_without_anything=1, audit_entries=1)
    assert await past.count("users", "id = $1", guest.user["id"]) == 0
    assert await past.count("users", "id IN ($1, $2, $3)", ada.user["id"], visitor.user["id"], talker.user["id"]) == 3
    renewed = await service.http.post("/auth/refresh", json={"refresh_token": ada.refresh_token})
    assert renewed.status_code == 200


async def test_calls_that_are_booked_late_lose_their_names(service: Service, past: Past) -> None:
    owner = (await service.register()).user["id"]
    gone, there = [await past.conversation(owner, idle_days=1) for _ in range(2)]
    await past.execute("DELETE FROM conversations WHERE id = $1", gone)

    assert (await run(service))["stray_model_calls"] == 1

    assert await past.count("model_calls", "user_id = $1 AND conversation_id = $2", owner, there) == 1
    assert await past.count("model_calls", "user_id = $1", owner) == 1


async def test_long_conversations_go_in_bounded_steps_that_can_be_stopped(
    service: Service, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of one is shown to nobody, and the next run takes the rest."""
    monkeypatch.setattr(retention, "MESSAGES_AT_ONCE", 10)
    owner = await service.register()
    id_ = await past.conversation(owner.user["id"], idle_days=100, messages=35)
    work = Retention(service.parts["database"], SystemClock(), is_dry=False)
    running = asyncio.create_task(work.run(ALL))
    while not work.counts["messages"]:
        await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    left = await past.count("messages", "conversation_id = $1", id_)
    answer = await service.http.get(f"/chat/conversations/{id_}", headers=owner.headers)

    assert 0 < left < 35
    assert answer.status_code == 404
    counts = await run(service)
    assert (counts["messages"], counts["conversations_deleted"]) == (left, 1)
    assert await past.count("conversations") == 0


async def test_a_conversation_that_somebody_works_on_is_not_waited_for(
    service: Service, past: Past, database_url: str
) -> None:
    owner = (await service.register()).user["id"]
    held, free = [await past.conversation(owner, idle_days=100) for _ in range(2)]
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute("SELECT FROM conversations WHERE id = $1 FOR UPDATE", held)
        counts = await asyncio.wait_for(run(service), 5)
        # Who held it has said something there.
        await other.execute("UPDATE conversations SET active_at = now() WHERE id = $1", held)
    await other.close()

    assert counts["conversations_deleted"] == 1
    assert await past.count("conversations", "id = $1", free) == 0
    assert (await run(service))["conversations_deleted"] == 0
