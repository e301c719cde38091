"""Names the database and Redis a command works on: those of the URLs, else the embedded engines of the data folder.

Opens no connection to them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from parley.cli.errors import CommandError
from parley.core.embedded.engines import attached_or_started
from parley.core.embedded.folder import find_data_folder
from parley.settings import Settings


@asynccontextmanager
async def open_stores(settings: Settings, *, with_redis: bool = True) -> AsyncIterator[Settings]:
    """Yield settings that name the stores, with engines started where needed; CommandError for a URL that is none."""
    check_database_url(settings.database.url)
    check_redis_url(settings.redis.url)
    async with with_engines(settings, with_redis=with_redis) as complete:
        yield complete


@asynccontextmanager
async def with_engines(settings: Settings, *, with_redis: bool = True) -> AsyncIterator[Settings]:
    """Yield settings in which the engines stand for each URL that is missing."""
    if settings.database.url is not None and (settings.redis.url is not None or not with_redis):
        yield settings
        return
    folder = find_data_folder(settings.server.data_dir)
    async with attached_or_started(folder) as engines:
        complete = settings
        if settings.database.url is None:
            url = _needed(engines.database_url, "DATABASE_URL", str(folder.path))
            complete = replace(complete, database=settings.database.model_copy(update={"url": url}), embedded=True)
        if settings.redis.url is None and with_redis:
            url = _needed(engines.redis_url, "REDIS_URL", str(folder.path))
            complete = replace(complete, redis=settings.redis.model_copy(update={"url": url}))
        yield complete


def check_database_url(url: SecretStr | None) -> None:
    """Raise CommandError for what cannot be the URL of a PostgreSQL, without repeating it."""
    if url is None:
        return
    try:
        parsed = make_url(url.get_secret_value())
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise CommandError(
            "DATABASE_URL does not look like postgresql://user:password@host:5432/name "
            "(special characters in a password are written as %40, %2F, ...)"
        )
    if "sslmode" in parsed.query:
        raise CommandError("DATABASE_URL has sslmode=...; the driver calls it ssl=... (the same values)")


def check_redis_url(url: SecretStr | None) -> None:
    """Raise CommandError for what cannot be the URL of a Redis, without repeating it."""
    if url is None:
        return
    try:
        Redis.from_url(url.get_secret_value())
    except ValueError:
        raise CommandError(
            "REDIS_URL does not look like redis://user:password@host:6379/0, rediss://... or unix:///path?db=0"
        ) from None


def _needed(url: str | None, name: str, folder: str) -> SecretStr:
    if url is None:
        raise CommandError(f"the service that runs in {folder} was started with a {name}: set the same one here")
    return SecretStr(url)
