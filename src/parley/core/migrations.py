"""The schema: which revision the code needs, which one the database has, and the way from one to the other.

The revision is read from the names of files, so that a worker whose schema is current asks Alembic nothing.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from parley.core.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

UNDEFINED_TABLE = "42P01"
log = structlog.get_logger(__name__)


def migrations_folder() -> Path:
    """Return `alembic/` of the checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1] / "alembic"
    return checkout if (checkout / "env.py").is_file() else package / "_alembic"


def needed_revision() -> str:
    """Return the newest revision; files are named `0001_what_it_does.py`, in order."""
    newest = max(path.name for path in (migrations_folder() / "versions").glob("[0-9]*.py"))
    return newest.split("_", 1)[0]


async def present_revision(database: Database) -> str | None:
    """Return the revision of the database, None for an empty one; raise DatabaseUnavailable when it is away."""
    async with database.transaction() as session:
        try:
            revision: str | None = await session.scalar(text("SELECT version_num FROM alembic_version"))
        except ProgrammingError as error:
            # Only a missing table means an empty database; missing rights, say, do not.
            if getattr(error.orig, "sqlstate", None) != UNDEFINED_TABLE:
                raise
            return None
        return revision


def migrate(database_url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`. Blocks, and waits its turn behind a migration that already runs.

    Alembic keeps the running migration in a global of its process: never run two in one process at once.
    """
    from alembic import command  # noqa: PLC0415  # a tenth of the start of a worker, and few have something to migrate

    command.upgrade(_config(database_url), revision)


def unmigrate(database_url: str, revision: str = "base") -> None:
    """Take the schema back to `revision`. Blocks."""
    from alembic import command  # noqa: PLC0415  # as above

    command.downgrade(_config(database_url), revision)


def _config(database_url: str) -> "Config":
    from alembic.config import Config  # noqa: PLC0415  # as above

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.attributes["database_url"] = database_url
    return config
