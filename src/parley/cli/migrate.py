"""`parley migrate`: brings the schema to what this version of the code needs."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from parley.cli.errors import CommandError
from parley.cli.notes import note_on_stderr
from parley.cli.schema import EMPTY, Schema, compare_schema
from parley.cli.stores import open_stores
from parley.core import migrations
from parley.core.database import Database
from parley.core.settings import DatabaseSettings
from parley.settings import Settings, load


def migrate(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit with 1 when the schema is behind.")] = (
        False
    ),
) -> None:
    """Bring the database schema to what this version needs.

    Works on DATABASE_URL, else on the embedded database. Safe to run twice, and from two places at once.
    """
    note_on_stderr()
    asyncio.run(_migrate(load(env_file=Path(".env")), only_check=check))


async def _migrate(settings: Settings, *, only_check: bool) -> None:
    async with open_stores(settings, with_redis=False) as complete:
        before = await _compare(complete.database)
        if not before.is_behind:
            print(before)
            return
        if only_check:
            raise CommandError(f"{before}: run parley migrate")
        assert complete.database.url is not None  # noqa: S101  # for the type checker: open_stores names it
        await asyncio.to_thread(migrations.migrate, complete.database.url.get_secret_value())
        after = await _compare(complete.database)
    print(f"migrated from {before.present or EMPTY} to {after.present or EMPTY}")


async def _compare(settings: DatabaseSettings) -> Schema:
    database = Database(settings)
    try:
        return await compare_schema(database)
    finally:
        await database.close()
