"""Names the database and Redis a command works on: those of the URLs, else the embedded engines of the data folder.

Opens no connection to them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from pydantic import SecretStr

from parley.cli.errors import CommandError
from parley.core.embedded.engines import attached_or_started
from parley.core.embedded.folder import find_data_folder
from parley.settings import Settings


@asynccontextmanager
async def open_stores(settings: Settings, *, with_redis: bool = True) -> AsyncIterator[Settings]:
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


def _needed(url: str | None, name: str, folder: str) -> SecretStr:
    if url is None:
        raise CommandError(f"the service that runs in {folder} was started with a {name}: set the same one here")
    return SecretStr(url)
