"""The looks of `parley doctor` at the servers behind the service: database, schema, Redis, model. Changes nothing."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from openai import NotFoundError
from redis.exceptions import NoPermissionError
from sqlalchemy import text

from parley.agents.clients.openai import open_openai, ping
from parley.agents.settings import AgentsSettings
from parley.cli.masks import mask_url, place_of
from parley.cli.schema import compare_schema
from parley.cli.verdicts import Verdict
from parley.core.database import Database
from parley.core.redis import open_redis
from parley.core.settings import DatabaseSettings, RedisSettings
from parley.settings import Settings

SAFE_POLICY = "noeviction"
OPENAI_URL = "https://api.openai.com/v1"


async def look_at_database(settings: DatabaseSettings) -> Sequence[Verdict]:
    """Ask for its version, and time an answer."""
    place = place_of(settings.url)
    database = Database(settings)
    try:
        async with database.transaction() as session:
            version = str(await session.scalar(text("SHOW server_version"))).split()[0]
            began = time.perf_counter()
            await session.execute(text("SELECT 1"))
            took = _milliseconds_since(began)
    finally:
        await database.close()
    return [Verdict("ok", "database", f"PostgreSQL {version} at {place} answers in {took}")]


async def look_at_schema(settings: Settings) -> Sequence[Verdict]:
    """Compare the schema with what this version needs."""
    database = Database(settings.database)
    try:
        schema = await compare_schema(database)
    finally:
        await database.close()
    if schema.is_behind and settings.embedded:
        return [Verdict("ok", "migrations", f"{schema}; the next parley serve brings it there")]
    if schema.is_behind:
        return [Verdict("fail", "migrations", str(schema), "parley migrate")]
    if schema.is_ahead:
        return [Verdict("warn", "migrations", str(schema), "install the newer version here as well")]
    return [Verdict("ok", "migrations", str(schema))]


async def look_at_redis(settings: RedisSettings) -> Sequence[Verdict]:
    """Ask for its version and what it does when it is full, and time an answer."""
    place = place_of(settings.url)
    redis = open_redis(settings)
    try:
        await redis.ping()
        began = time.perf_counter()
        await redis.ping()
        took = _milliseconds_since(began)
        try:
            info: Mapping[str, Any] = await redis.info()
        except NoPermissionError:
            info = {}
    finally:
        await redis.aclose()
    seen = f"{_redis_version(info)} at {place} answers in {took}"
    policy = info.get("maxmemory_policy")
    if policy == SAFE_POLICY:
        return [Verdict("ok", "redis", f"{seen}; {SAFE_POLICY}")]
    if policy is None:
        return [
            Verdict("warn", "redis", f"{seen}; does not tell its maxmemory-policy", f"see that it is {SAFE_POLICY}")
        ]
    return [
        Verdict(
            "warn",
            "redis",
            f"{seen}; maxmemory-policy is {policy}: it throws away answers that are still being written",
            f"set maxmemory-policy to {SAFE_POLICY}",
        )
    ]


async def look_at_model(settings: AgentsSettings) -> Sequence[Verdict]:
    """Ask the provider whether it has the model."""
    if settings.is_demo:
        return [Verdict("ok", "model", "the demo model is used (set OPENAI_API_KEY for a real one)")]
    url = model_place(settings)
    client = open_openai(settings)
    try:
        began = time.perf_counter()
        is_listed = await ping(client, settings.name)
        took = _milliseconds_since(began)
    except NotFoundError:
        return [Verdict("warn", "model", f"{url} lists no models", "see that OPENAI_BASE_URL ends as it should (/v1)")]
    finally:
        await client.close()
    if not is_listed:
        seen = f"{url} answers in {took} and does not list {settings.name}"
        return [Verdict("warn", "model", seen, "set PARLEY_MODEL_NAME to a model of this provider")]
    return [Verdict("ok", "model", f"{settings.name} at {url} (answers in {took})")]


def model_place(settings: AgentsSettings) -> str:
    """Return where the model is asked, without credentials."""
    return mask_url(settings.base_url or OPENAI_URL)


def _redis_version(info: Mapping[str, Any]) -> str:
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}" if "redis_version" in info else "Redis"


def _milliseconds_since(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.1f} ms"
