"""PostgreSQL behind pgbouncer in transaction mode: each transaction may meet another server, and no session is kept."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import text
from tests.fixtures.ports import free_port
from tests.ops.front import Fleet
from tests.story.chatting import said, staged, tokens
from tests.story.conftest import place

from parley.cli.reasons import find_reason
from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable
from parley.core.migrations import migrate, needed_revision, present_revision, unmigrate
from parley.core.settings import DatabaseSettings

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="needs pgbouncer (Debian: pgbouncer)")
__all__ = ["place"]
START_S = 10.0
SERVERS = 3  # fewer than there are clients, so that they take turns
AS_NOBODY = ("-u", "nobody") if os.geteuid() == 0 else ()


@pytest.fixture
def pooled_url(database_url: str, place: Path) -> Iterator[str]:
    """The test's database through a pooler."""
    assert PGBOUNCER is not None
    parts, port = urlsplit(database_url), free_port()
    [host], name = parse_qs(parts.query)["host"], parts.path.removeprefix("/")
    (place / "users").write_text('"parley" ""\n')
    (place / "pgbouncer.ini").write_text(
        f"[databases]\n{name} = host={host} user=parley\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"unix_socket_dir =\nauth_type = trust\nauth_file = {place / 'users'}\npool_mode = transaction\n"
        f"default_pool_size = {SERVERS}\nmax_client_conn = 200\n"
    )
    with (place / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(
            [PGBOUNCER, *AS_NOBODY, str(place / "pgbouncer.ini")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + START_S
        while "process up" not in (place / "pgbouncer.log").read_text():
            assert time.monotonic() < deadline, (place / "pgbouncer.log").read_text()
            time.sleep(0.02)
        yield f"postgresql://parley@127.0.0.1:{port}/{name}"
    finally:
        process.terminate()
        process.wait(START_S)


def opened(url: str, *, is_pooled: bool = True) -> Database:
    return Database(DatabaseSettings(url=url, pooled=is_pooled, statement_timeout_s=1.5, pool_size=8))


async def ask_in_both_ways(database: Database, number: int) -> None:
    for count in range(10):
        value = number * 100 + count
        [(found,)] = await database.fetch("SELECT $1::int", value)
        assert found == value
        async with database.snapshot() as session:
            assert await session.scalar(text("SELECT :value + 0"), {"value": value}) == value


async def test_many_clients_take_turns_at_few_servers(pooled_url: str) -> None:
    database = opened(pooled_url)
    try:
        await asyncio.gather(*(ask_in_both_ways(database, number) for number in range(3 * SERVERS)))
        assert database.timeline
    finally:
        await database.close()


async def test_every_transaction_has_its_deadlines(pooled_url: str) -> None:
    """What a session was told is another client's, so each transaction is told."""
    database = opened(pooled_url)
    try:
        [(of_fetch,)] = await database.fetch("SELECT current_setting('statement_timeout')")
        async with database.transaction() as session:
            of_session = await session.scalar(text("SELECT current_setting('statement_timeout')"))
        assert (of_fetch, of_session) == ("1500ms", "1500ms")
        with pytest.raises(DatabaseUnavailable):
            await database.fetch("SELECT pg_sleep(10)")
    finally:
        await database.close()


async def test_without_the_setting_it_is_refused_and_the_reason_named(pooled_url: str) -> None:
    database = opened(pooled_url, is_pooled=False)
    try:
        with pytest.raises(DatabaseUnavailable) as refused:
            await database.ping()
        reason = find_reason(refused.value)
        assert reason is not None
        assert "PARLEY_DATABASE_POOLED=1" in reason
    finally:
        await database.close()


async def test_migrations_go_through_it(pooled_url: str, at_leisure: None) -> None:
    await asyncio.to_thread(unmigrate, pooled_url)
    for _ in range(2):
        await asyncio.to_thread(migrate, pooled_url)
    database = opened(pooled_url)
    try:
        assert await present_revision(database) == needed_revision()
    finally:
        await database.close()


async def test_answers_are_streamed_with_it(
    place: Path, database_url: str, pooled_url: str, redis_url: str, at_leisure: None
) -> None:
    """Two workers, and more people than there are servers."""
    fleet = await asyncio.to_thread(
        lambda: Fleet(place, database_url, redis_url, workers=2, DATABASE_URL=pooled_url, PARLEY_DATABASE_POOLED="1")
    )
    try:
        async with staged(fleet) as stage:
            anna, agent = await fleet.person(), await fleet.agent(tokens(40))
            conversations = [await fleet.conversation(anna, agent) for _ in range(6)]
            tabs = [(await stage.tab(anna, where), await stage.tab_sse(anna, where)) for where in conversations]
            replies = [str((await tab.send("Hello?")).reply_id) for tab, _ in tabs]
            for pair, reply in zip(tabs, replies, strict=True):
                for screen in pair:
                    await screen.until_end(reply)
                    assert screen.history.text(reply) == said(40)
            await stage.settle(*conversations)
    finally:
        await asyncio.to_thread(fleet.end)
