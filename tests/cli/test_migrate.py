"""The schema from the command line: told, brought to head, and left alone when asked to."""

import os
from pathlib import Path

import pytest
from tests.cli.conftest import Parley
from tests.conftest import DATABASE

from parley.core.migrations import needed_revision


@pytest.fixture
def needed() -> str:
    """The revision that the code needs; looked up off the loop, as it reads a folder."""
    return needed_revision()


async def test_an_empty_database_is_behind_until_it_is_migrated(
    parley: Parley, cold_parley: Parley, empty_database_url: str, needed: str
) -> None:
    behind = await parley("migrate", "--check", DATABASE_URL=empty_database_url)
    migrated = await cold_parley("migrate", DATABASE_URL=empty_database_url)
    current = await parley("migrate", "--check", DATABASE_URL=empty_database_url)

    assert (behind.code, behind.error) == (
        1,
        f"the schema is at nothing, this version needs {needed}: run parley migrate",
    )
    assert (migrated.code, migrated.out, migrated.err) == (0, f"migrated from nothing to {needed}\n", "")
    assert (current.code, current.out) == (0, f"the schema is at {needed}, as this version needs it\n")


async def test_migrating_twice_changes_nothing(parley: Parley, database_url: str) -> None:
    again = await parley("migrate", DATABASE_URL=database_url)

    assert (again.code, again.err) == (0, "")
    assert "as this version needs it" in again.out


async def test_the_url_may_stand_in_the_env_file(parley: Parley, folder: Path, empty_database_url: str) -> None:
    (folder / ".env").write_text(f"DATABASE_URL='{empty_database_url}'\n")

    assert (await parley("migrate")).code == 0
    assert (await parley("migrate", "--check")).code == 0


async def test_commands_on_accounts_wait_for_the_migration(
    parley: Parley, empty_database_url: str, redis_url: str
) -> None:
    listed = await parley("users", "list", DATABASE_URL=empty_database_url, REDIS_URL=redis_url)

    assert (listed.code, "run parley migrate" in listed.error) == (1, True)


async def test_a_database_that_is_not_there_is_named_as_such(parley: Parley) -> None:
    missing = await parley("migrate", DATABASE_URL=os.environ[DATABASE].replace("/parley?", "/nowhere?"))

    assert (missing.code, missing.error) == (1, "the database has no database of that name")


async def test_the_embedded_database_is_migrated_where_no_url_is_set(
    parley: Parley, data_folder: Path, needed: str
) -> None:
    where = {"PARLEY_DATA_DIR": str(data_folder)}

    assert (await parley("migrate", **where)).out == f"migrated from nothing to {needed}\n"
    assert (await parley("migrate", "--check", **where)).code == 0
