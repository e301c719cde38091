"""PostgreSQL: URLs as people have them, one error when it is away, and no connection that is known to be dead."""

import asyncio
import struct
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from asyncpg import PostgresSyntaxError
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from tests.fixtures.service import settings_for

from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable, SchemaBehind, Vanished
from parley.core.migrations import present_revision


def open_database(url: str, **variables: str) -> Database:
    return Database(settings_for(url, "redis://unused", **variables).database)


@pytest.mark.parametrize(
    "extra", ["", "&sslmode=prefer", "&sslmode=prefer&channel_binding=prefer", "&channel_binding=prefer"]
)
@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
async def test_a_url_works_as_hosted_databases_show_it(database_url: str, extra: str, scheme: str) -> None:
    database = open_database(database_url.replace("postgresql", scheme, 1) + extra)

    await database.ping()
    await database.close()


async def test_a_connection_the_server_closed_is_not_handed_out(database_url: str) -> None:
    database, other = open_database(database_url), open_database(database_url)
    for _ in range(3):
        async with database.transaction() as session:
            pid = await session.scalar(text("SELECT pg_backend_pid()"))
        async with other.transaction() as session:
            await session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        await asyncio.sleep(0.1)
        await database.ping()
    await database.close()
    await other.close()


async def test_a_snapshot_sees_one_moment_and_leaves_the_connection_as_it_was(database_url: str) -> None:
    database, other = open_database(database_url, PARLEY_DATABASE_POOL_SIZE="1"), open_database(database_url)
    async with other.transaction() as session:
        await session.execute(text("CREATE TABLE said (n int)"))
    count = text("SELECT count(*) FROM said")
    async with database.snapshot() as session:
        before = await session.scalar(count)
        async with other.transaction() as writing:
            await writing.execute(text("INSERT INTO said VALUES (1)"))
        assert await session.scalar(count) == before
    async with database.transaction() as session:
        assert await session.scalar(count) == 1
        assert await session.scalar(text("SHOW transaction_isolation")) == "read committed"
    await database.close()
    await other.close()


async def test_a_full_pool_is_refused_in_time(database_url: str) -> None:
    database = open_database(
        database_url,
        PARLEY_DATABASE_POOL_SIZE="1",
        PARLEY_DATABASE_POOL_OVERFLOW="0",
        PARLEY_DATABASE_POOL_TIMEOUT_S="0.2",
    )
    async with database.transaction() as session:
        await session.execute(text("SELECT 1"))
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            await database.ping()
        assert time.monotonic() - started < 1
    await database.ping()
    await database.close()


async def test_a_statement_that_takes_too_long_is_ended(database_url: str) -> None:
    database = open_database(database_url, PARLEY_DATABASE_STATEMENT_TIMEOUT_S="0.2")

    with pytest.raises(DatabaseUnavailable):
        async with database.transaction() as session:
            await session.execute(text("SELECT pg_sleep(10)"))
    await database.ping()
    await database.close()


async def test_a_mistake_of_ours_is_not_taken_for_an_absence(database_url: str) -> None:
    database = open_database(database_url)

    with pytest.raises(DBAPIError):
        async with database.transaction() as session:
            await session.execute(text("SELECT nonsense"))
    await database.close()


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(("SET TRANSACTION READ ONLY", "CREATE TABLE a (n int)"), id="read-only"),
        pytest.param(("CREATE SEQUENCE numbers", "SELECT currval('numbers')"), id="not in that state"),
    ],
)
async def test_a_server_that_is_no_primary_is_an_absence(database_url: str, statements: tuple[str, ...]) -> None:
    """A failover in which the address leads to the standby for some seconds."""
    database = open_database(database_url)

    async def run() -> None:
        async with database.transaction() as session:
            for statement in statements:
                await session.execute(text(statement))

    with pytest.raises(DatabaseUnavailable):
        await run()
    await database.close()


async def test_what_refers_to_something_deleted_meanwhile_is_told_so(database_url: str) -> None:
    database = open_database(database_url)
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE people (id int PRIMARY KEY)"))
        await session.execute(text("CREATE TABLE words (person int REFERENCES people)"))

    with pytest.raises(Vanished):
        await database.fetch("INSERT INTO words VALUES (1)")
    with pytest.raises(Vanished):
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO words VALUES (1)"))
    await database.close()


@pytest.mark.parametrize("statement", ["SELECT nonsense", "SELECT 1 FROM nowhere"])
async def test_what_a_schema_lacks_before_it_is_settled_is_no_mistake(database_url: str, statement: str) -> None:
    database = open_database(database_url)
    database.is_settled = False

    with pytest.raises(SchemaBehind):
        async with database.transaction() as session:
            await session.execute(text(statement))
    with pytest.raises(SchemaBehind):
        await database.fetch(statement)
    await database.close()


class Relay:
    """Stands before a PostgreSQL and can say goodbye in its name."""

    def __init__(self) -> None:
        self.clients: list[asyncio.StreamWriter] = []

    async def say_goodbye(self) -> None:
        told = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
        self.clients[-1].write(b"E" + struct.pack("!i", 4 + len(told)) + told)
        await asyncio.sleep(0.1)  # until it has been read; the end of the connection has not come yet


@asynccontextmanager
async def relayed(database_url: str) -> AsyncIterator[tuple[str, Relay]]:
    relay, url = Relay(), make_url(database_url)
    host, running = url.query["host"], set[asyncio.Task[None]]()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.5432")
        relay.clients.append(writer)
        running.add(asyncio.ensure_future(pass_on(reader, there_writer)))
        running.add(asyncio.ensure_future(pass_on(there_reader, writer)))

    with tempfile.TemporaryDirectory(prefix="parley-") as folder:
        server = await asyncio.start_unix_server(serve, f"{folder}/.s.PGSQL.5432")
        yield database_url.replace(str(host), folder), relay
        server.close()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for client in relay.clients:
        client.close()


@pytest.mark.parametrize("is_fetched", [True, False])
async def test_a_goodbye_that_was_read_half_is_an_absence(database_url: str, is_fetched: bool) -> None:
    async with relayed(database_url) as (url, relay):
        database = open_database(url, PARLEY_DATABASE_POOL_SIZE="1", PARLEY_DATABASE_POOL_OVERFLOW="0")

        async def ask() -> None:
            if is_fetched:
                await database.fetch("SELECT 1")
            else:
                await database.ping()

        await ask()
        await relay.say_goodbye()
        with pytest.raises(DatabaseUnavailable):
            await ask()
        await ask()
        await database.close()


async def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    database = open_database(f"postgresql://x@127.0.0.1:{port}/x", PARLEY_DATABASE_CONNECT_TIMEOUT_S="0.3")

    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    assert time.monotonic() - started < 4
    await database.close()
    server.close()
    await server.wait_closed()


async def test_missing_rights_are_not_an_empty_database(database_url: str) -> None:
    owner = open_database(database_url)
    async with owner.transaction() as session:
        await session.execute(text("DROP ROLE IF EXISTS stranger"))
        await session.execute(text("CREATE ROLE stranger LOGIN"))
    stranger = open_database(database_url.replace("parley@", "stranger@"))

    with pytest.raises(ProgrammingError):
        await present_revision(stranger)
    await stranger.close()
    async with owner.transaction() as session:
        await session.execute(text("DROP ROLE stranger"))
    await owner.close()


async def test_a_statement_of_the_driver_answers_and_leaves_nothing_behind(database_url: str) -> None:
    """Cancelled, its connection is given up: an answer that is still on its way meets nobody else."""
    database = open_database(database_url, PARLEY_DATABASE_POOL_SIZE="1", PARLEY_DATABASE_POOL_OVERFLOW="0")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await database.fetch("SELECT pg_sleep(60)")

    [row] = await database.fetch("SELECT $1::int + 1 AS next, now() = transaction_timestamp() AS alone", 1)
    assert (row["next"], row["alone"]) == (2, True)
    with pytest.raises(PostgresSyntaxError):
        await database.fetch("SELEC 1")
    await database.ping()
    await database.close()


async def test_a_statement_of_the_driver_meets_a_database_that_is_away() -> None:
    database = open_database("postgresql://parley@127.0.0.1:1/parley")
    with pytest.raises(DatabaseUnavailable):
        await database.fetch("SELECT 1")
    await database.close()
