"""The schema: up, down, no drift from the models, one migration at a time, and a worker that says it is behind."""

import asyncio
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from tests.conftest import Start
from tests.fixtures.service import settings_for

from parley import container
from parley.core.database import Database
from parley.core.migrations import migrate, migrations_folder, needed_revision, present_revision, unmigrate
from parley.tables import metadata


def drift(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


def test_the_newest_file_is_the_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))

    assert needed_revision() == ScriptDirectory.from_config(config).get_current_head()


async def test_models_and_migrations_do_not_drift(database_url: str, redis_url: str) -> None:
    database = Database(settings_for(database_url, redis_url).database)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(drift) == []
    await database.close()


async def test_down_and_up_again(database_url: str, redis_url: str) -> None:
    database = Database(settings_for(database_url, redis_url).database)

    await asyncio.to_thread(unmigrate, database_url)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(lambda c: inspect(c).get_table_names()) == ["alembic_version"]
    assert await present_revision(database) is None
    await asyncio.to_thread(migrate, database_url)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(drift) == []
    await database.close()


async def test_many_that_migrate_at_once_wait_for_one(database_url: str, redis_url: str) -> None:
    await asyncio.to_thread(unmigrate, database_url)

    script = "import sys; from parley.core.migrations import migrate; migrate(sys.argv[1])"
    runs = [await asyncio.create_subprocess_exec(sys.executable, "-c", script, database_url) for _ in range(4)]
    async with asyncio.timeout(60):
        assert [await run.wait() for run in runs] == [0, 0, 0, 0]

    database = Database(settings_for(database_url, redis_url).database)
    assert await present_revision(database) == await asyncio.to_thread(needed_revision)
    await database.close()


async def test_a_worker_whose_schema_is_behind_is_not_ready_until_somebody_migrates(
    start: Start, database_url: str
) -> None:
    await asyncio.to_thread(unmigrate, database_url)
    async with start() as service:
        await _until_not_ready_because(service.http, "schema_behind")
        early = await service.http.post("/auth/register", json={"email": "a@shop.example", "password": "correct horse"})
        assert (early.status_code, early.json()["error"]["code"]) == (503, "schema_behind")
        await asyncio.to_thread(migrate, database_url)
        await asyncio.wait_for(service.parts["readiness"].wait(), 10)
        assert (await service.http.get("/health/ready")).status_code == 200


async def test_an_embedded_worker_migrates_by_itself(start: Start, database_url: str) -> None:
    await asyncio.to_thread(unmigrate, database_url)

    async with start(PARLEY_EMBEDDED="1") as service:
        await asyncio.wait_for(service.parts["readiness"].wait(), 20)
        async with service.parts["database"].transaction() as db:
            assert await db.scalar(text("SELECT count(*) FROM users")) == 0


async def test_a_migration_that_is_cut_off_is_begun_again(
    start: Start, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the end of an embedded PostgreSQL: nobody else migrates it."""
    await asyncio.to_thread(unmigrate, database_url)
    cut_off = [True]

    def migrate_or_not(url: str) -> None:
        if cut_off:
            cut_off.clear()
            raise ConnectionResetError("the server has gone")
        migrate(url)

    monkeypatch.setattr(container, "migrate", migrate_or_not)
    async with start(PARLEY_EMBEDDED="1") as service:
        await asyncio.wait_for(service.parts["readiness"].wait(), 20)
    assert not cut_off


async def _until_not_ready_because(http: object, reason: str) -> None:
    for _ in range(200):
        answer = await http.get("/health/ready")  # type: ignore[attr-defined]
        if reason in answer.json()["reasons"]:
            assert answer.status_code == 503
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"never {reason}")
