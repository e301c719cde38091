"""Puts something into both engines, and looks whether it is still there."""

import asyncpg
import redis.asyncio

from parley.core.embedded.engines import Engines


async def ask(engines: Engines, statement: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(engines.database_url, timeout=5)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def keep(engines: Engines) -> None:
    await ask(engines, "CREATE TABLE kept (word text, direction vector(3))")
    await ask(engines, "INSERT INTO kept VALUES ('grüße', '[1,2,3]')")
    async with redis.asyncio.from_url(str(engines.redis_url)) as client:
        await client.set("kept", "grüße")


async def kept(engines: Engines) -> tuple[object, object]:
    async with redis.asyncio.from_url(str(engines.redis_url), decode_responses=True) as client:
        return (await ask(engines, "SELECT word FROM kept"))[0][0], await client.get("kept")
