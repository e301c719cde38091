"""Opens what commands on accounts, people and sites need, wired as in a worker but without tasks: nothing is heard."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from parley.auth.passwords import PasswordHasher
from parley.auth.revocation import Revocations
from parley.auth.service import AuthService
from parley.auth.sites import Sites
from parley.auth.sites_service import SiteService
from parley.auth.tokens import TokenCodec
from parley.cli.errors import CommandError
from parley.cli.schema import compare_schema
from parley.cli.stores import open_stores
from parley.core.clock import SystemClock
from parley.core.database import Database
from parley.core.fanout.broker import Broker
from parley.core.line import Line
from parley.core.migrations import migrate
from parley.core.origins import Origins
from parley.core.redis import open_redis
from parley.privacy.erasure import Erasure
from parley.privacy.export import Export
from parley.settings import Settings


@asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncIterator[AuthService]:
    """Yield the service of accounts; what it revokes, running workers hear at once over Redis."""
    async with AsyncExitStack() as stack:
        complete, database, broker = await _open_both(stack, settings)
        hasher = PasswordHasher(complete.auth)
        stack.callback(hasher.close)
        clock = SystemClock()
        yield AuthService(
            database=database,
            hasher=hasher,
            # No command signs anybody in, so no secret of the service is needed here.
            codec=TokenCodec([secrets.token_urlsafe(48)], complete.auth.issuer, complete.auth.audience),
            revocations=Revocations(database, broker, complete.auth, clock),
            settings=complete.auth,
            clock=clock,
        )


@asynccontextmanager
async def open_privacy(settings: Settings) -> AsyncIterator[tuple[Export, Erasure]]:
    """Yield what hands out and takes away what is held about people; running workers hear at once over Redis."""
    async with AsyncExitStack() as stack:
        complete, database, broker = await _open_both(stack, settings)
        redis, clock = open_redis(complete.redis), SystemClock()
        stack.push_async_callback(redis.aclose)
        revocations = Revocations(database, broker, complete.auth, clock)
        poll_s = complete.auth.revocation_poll_s
        yield (
            Export(database, clock),
            Erasure(database=database, redis=redis, revocations=revocations, revocation_poll_s=poll_s, clock=clock),
        )


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Yield the database, its schema as this version needs it."""
    async with AsyncExitStack() as stack:
        complete = await stack.enter_async_context(open_stores(settings, with_redis=False))
        database = Database(complete.database)
        stack.push_async_callback(database.close)
        await _settle_schema(complete, database)
        yield database


@asynccontextmanager
async def open_sites(settings: Settings) -> AsyncIterator[SiteService]:
    """Yield the service of sites; what it changes, running workers hear at once over Redis."""
    async with AsyncExitStack() as stack:
        complete, database, broker = await _open_both(stack, settings)
        sites = Sites(database, broker, Origins(complete.server), complete.auth)
        yield SiteService(database, sites, SystemClock())


async def _open_both(stack: AsyncExitStack, settings: Settings) -> tuple[Settings, Database, Broker]:
    complete = await stack.enter_async_context(open_stores(settings))
    database = Database(complete.database)
    stack.push_async_callback(database.close)
    await _settle_schema(complete, database)
    redis = open_redis(complete.redis)
    stack.push_async_callback(redis.aclose)
    line = Line(redis)
    stack.push_async_callback(line.close)
    return complete, database, Broker(line, complete.redis.timeout_s)


async def _settle_schema(settings: Settings, database: Database) -> None:
    """Refuse to work on a schema that is behind; the embedded one is brought up, as `parley serve` would do."""
    schema = await compare_schema(database)
    if not schema.is_behind:
        return
    if not settings.embedded or settings.database.url is None:
        raise CommandError(f"{schema}: run parley migrate")
    await asyncio.to_thread(migrate, settings.database.url.get_secret_value())
