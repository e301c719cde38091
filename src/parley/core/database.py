"""PostgreSQL: one engine a worker, short transactions, a deadline on every wait, one error when it is away.

A session lives inside one service call. Nothing here retries: a caller's `client_id` makes its own retry safe.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast
from uuid import UUID

import asyncpg
import orjson
import structlog
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import configure_mappers
from sqlalchemy.pool import QueuePool

from parley.core.errors import DatabaseUnavailable, SchemaBehind, Vanished
from parley.core.settings import DatabaseSettings
from parley.core.telemetry import Telemetry

log = structlog.get_logger(__name__)

# PostgreSQL's own words for "not now": cannot connect, out of resources, operator intervened, lock or time limit,
# a deadlock or a serialization that somebody else won, and a standby that has yet to become the primary.
_AWAY_CLASSES = ("08", "53", "57", "55P03", "25P03", "40", "25006", "55000")
_REFERS_TO_NOTHING = "23503"
_LACKS = ("42P01", "42703")  # a table, a column
_TIMELINE = "SELECT system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()"
_POOLED_LIFE_S = 60  # a pooler keeps our connection when PostgreSQL is another one: its timeline is asked anew
_UNSIGNED = (1 << 64) - 1  # PostgreSQL has no unsigned integers
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
# Raised by the driver before there is a statement to fail; the last where it has read the server's goodbye already.
_AWAY_ERRORS = (OSError, TimeoutError, PoolTimeout, asyncpg.InterfaceError, asyncpg.InternalClientError)


class AlreadyThere(Exception):
    """A unique index refused a row."""


class Database:
    """Sessions for services; opened by the container, closed by it."""

    def __init__(self, settings: DatabaseSettings, telemetry: Telemetry | None = None) -> None:
        if settings.url is None:
            raise ValueError("the database needs a URL")
        self.timeline = ""
        """Which history of which database the newest connection reads: another one makes cursors void."""
        self.pool_timeouts = 0
        """Times nobody gave a connection back in time."""
        self.is_settled = True
        """Whether the schema is the one this code needs; what it lacks before that is no mistake of ours."""
        self.connections_most = settings.pool_size + settings.pool_overflow
        self._telemetry = telemetry or Telemetry()
        self._deadlines = _deadlines(settings) if settings.pooled else None
        configure_mappers()  # now, and not inside the first request
        self._engine = _open_engine(settings, self._greet)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False, autoflush=False)

    def lend(self, **info: Any) -> None:
        """Let every session carry this in its `info`: for what is noted in somebody else's transaction."""
        self._sessions.configure(info=info)

    @property
    def engine(self) -> AsyncEngine:
        return self._engine

    @property
    def connections_used(self) -> int:
        """How many are at work."""
        return self._pool.checkedout()

    @property
    def connections_idle(self) -> int:
        """How many wait for work."""
        return self._pool.checkedin()

    @property
    def _pool(self) -> QueuePool:
        return cast("QueuePool", self._engine.sync_engine.pool)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Yield a session whose work is committed at the end of the block; DatabaseUnavailable when it is away."""
        with self._named(), self._telemetry.store("postgresql", "transaction"):
            async with self._sessions() as session, session.begin():
                yield session

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncSession]:
        """Yield a session in which all statements see one moment; for reading only."""
        async with self.transaction() as session:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    async def fetch(self, statement: str, *values: Any) -> list[Any]:
        """Return the rows of one statement by the driver alone, committed in itself: for what everybody waits for.

        One round trip and one moment; a session takes three round trips and some ten times the CPU time. Raises
        AlreadyThere where a unique index refuses.
        """
        try:
            with self._named(), self._telemetry.store("postgresql", statement):
                return await self._fetch(statement, values)
        except asyncpg.UniqueViolationError as error:
            raise AlreadyThere from error

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Give what a caller may try again its name."""
        try:
            yield
        except (DBAPIError, asyncpg.PostgresError, *_AWAY_ERRORS) as error:
            self.pool_timeouts += isinstance(error, PoolTimeout)
            state = str(getattr(getattr(error, "orig", error), "sqlstate", None) or "")
            if _is_away(error, state):
                raise DatabaseUnavailable from error
            if state == _REFERS_TO_NOTHING:
                log.warning("row_vanished", reason=str(getattr(error, "orig", error)).partition("\n")[0])
                raise Vanished from error
            if state in _LACKS and not self.is_settled:
                raise SchemaBehind from error
            raise

    async def _fetch(self, statement: str, values: Sequence[Any]) -> list[Any]:
        async with self._engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            try:
                return await self._fetch_by(driver, statement, values)
            except (asyncio.CancelledError, TimeoutError):
                await connection.invalidate()  # an answer may still be on its way
                raise

    async def _fetch_by(self, driver: Any, statement: str, values: Sequence[Any]) -> list[Any]:
        rows: list[Any]
        if self._deadlines is None:
            rows = await driver.fetch(statement, *values)
        else:
            async with driver.transaction():  # a pooler may give its two halves to two servers otherwise
                told = (f"SET LOCAL {name} = {value}" for name, value in self._deadlines.items())
                await driver.execute("; ".join(told))
                rows = await driver.fetch(statement, *values)
        return rows

    async def ping(self) -> None:
        """Ask for the simplest answer; raise DatabaseUnavailable without one."""
        async with self.transaction() as session:
            await session.execute(text("SELECT 1"))

    async def _greet(self, connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            # The driver's own UUIDs are a subclass that JSON encoders refuse.
            await connection.set_type_codec(
                "uuid", schema="pg_catalog", encoder=_uuid_bytes, decoder=_uuid_of, format="binary"
            )
            identifier, timeline = await connection.fetchrow(_TIMELINE)
        self.timeline = f"{_base36(identifier & _UNSIGNED)}-{timeline}"

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


async def connect(url: str, **options: Any) -> asyncpg.Connection:
    """Open a connection of the driver, which reads a URL as every PostgreSQL client does (`sslmode` and all)."""
    plain = url.replace("postgresql+asyncpg://", "postgresql://", 1)
    # Hosted databases put it into the URLs they show; the driver does not know it, and negotiates without.
    plain = re.sub(r"(?<=[?&])channel_binding=\w+&?", "", plain).rstrip("?&")
    return await asyncpg.connect(plain, **options)


def open_unnamed(opening: Callable[[], Awaitable[asyncpg.Connection]], **options: Any) -> AsyncEngine:
    """Return an engine that keeps no prepared statement, so that a pooler may give each transaction another server."""

    def creator() -> Any:
        dbapi: Any = engine.sync_engine.dialect.dbapi
        return dbapi.connect(
            async_creator_fn=opening, prepared_statement_cache_size=0, prepared_statement_name_func=lambda: ""
        )

    engine = create_async_engine("postgresql+asyncpg://", creator=creator, **options)
    return engine


def _open_engine(settings: DatabaseSettings, greet: Callable[[asyncpg.Connection], Awaitable[None]]) -> AsyncEngine:
    url = settings.url.get_secret_value() if settings.url else ""

    async def connect_with_deadlines() -> asyncpg.Connection:
        connection = await connect(
            url,
            timeout=settings.connect_timeout_s,
            command_timeout=settings.command_timeout_s,
            # A pooler takes the names it knows alone, and keeps no prepared statement.
            server_settings={
                "application_name": "parley",
                "timezone": "UTC",
                **({} if settings.pooled else _deadlines(settings)),
            },
            **({"statement_cache_size": 0} if settings.pooled else {}),
        )
        await greet(connection)
        return connection

    options: dict[str, Any] = {
        "pool_size": settings.pool_size,
        "max_overflow": settings.pool_overflow,
        "pool_timeout": settings.pool_timeout_s,
        "pool_use_lifo": True,
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
        "hide_parameters": True,
    }
    if settings.pooled:
        engine = open_unnamed(connect_with_deadlines, pool_recycle=_POOLED_LIFE_S, **options)
        event.listen(engine.sync_engine, "begin", _set_deadlines(_deadlines(settings)))
    else:
        engine = create_async_engine("postgresql+asyncpg://", async_creator=connect_with_deadlines, **options)
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _refuse_closed(dbapi_connection: Any, _record: Any, _proxy: Any) -> None:
    """Drop a pooled connection whose socket is known to be closed: a pre-ping without the three round trips."""
    if dbapi_connection.driver_connection.is_closed():
        raise DisconnectionError


def _is_away(error: Exception, state: str) -> bool:
    if state:
        return state.startswith(_AWAY_CLASSES)
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or isinstance(error.__cause__ or error.orig, _AWAY_ERRORS)
    return True


def _deadlines(settings: DatabaseSettings) -> dict[str, str]:
    return {
        "statement_timeout": _milliseconds(settings.statement_timeout_s),
        "lock_timeout": _milliseconds(settings.lock_timeout_s),
        "idle_in_transaction_session_timeout": _milliseconds(settings.idle_in_transaction_s),
    }


def _set_deadlines(deadlines: Mapping[str, str]) -> Callable[[Connection], None]:
    """Return what begins a transaction behind a pooler: what a session was told is forgotten there."""
    told = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in deadlines.items())
    return lambda connection: connection.exec_driver_sql(f"SELECT {told}").close()


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))


def _uuid_bytes(value: UUID | str) -> bytes:
    return value.bytes if isinstance(value, UUID) else UUID(value).bytes


def _uuid_of(data: bytes) -> UUID:
    return UUID(bytes=bytes(data))


def _base36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text or "0"
