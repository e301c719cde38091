"""How Alembic reaches the database: the service's own settings, one connection, one migration at a time."""

import asyncio

from alembic import context
from sqlalchemy import Connection, pool, text

from parley.core.database import connect, open_unnamed
from parley.settings import load
from parley.tables import metadata

# Any number will do as long as nothing else of ours uses it; two runs at once would race on the first table.
LOCK_KEY = 7_216_450_019
TURN_TIMEOUT_MS = 600_000  # how long to wait behind another migration
CONNECT_TIMEOUT_S = 10.0
LOCK_TIMEOUT_MS = 5_000  # a migration that cannot get its lock must not queue up every query behind it


def database_url() -> str:
    """Return the URL handed in by `parley migrate`, else the one of the settings."""
    url = context.config.attributes.get("database_url")
    if url is None:
        configured = load().database.url
        if configured is None:
            raise SystemExit("DATABASE_URL is not set; `parley migrate` also knows the embedded database")
        url = configured.get_secret_value()
    return str(url)


def migrate(connection: Connection) -> None:
    """Run the migrations in one transaction, behind the lock."""
    context.configure(connection=connection, target_metadata=metadata, compare_type=True, compare_server_default=True)
    with context.begin_transaction():
        connection.execute(text(f"SET LOCAL lock_timeout = {TURN_TIMEOUT_MS}"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
        context.run_migrations()


async def connect_and_migrate() -> None:
    """Open one connection and hand it over."""
    url = database_url()
    # Without statements of a name, which would be left behind with a pooler.
    engine = open_unnamed(
        lambda: connect(url, timeout=CONNECT_TIMEOUT_S, statement_cache_size=0), poolclass=pool.NullPool
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(connect_and_migrate())
