"""Single parts in this process: what one token, one limit and one log line cost."""

import os
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path

import structlog
from redis.asyncio import Redis
from starlette.requests import HTTPConnection
from tests.bench.table import Row

from parley.auth.tokens import AccessClaims, TokenCodec
from parley.core.client_address import ClientAddress
from parley.core.ids import new_id
from parley.core.limits import Limiter
from parley.core.line import Line
from parley.core.logging import configure_logging
from parley.core.metrics import Metrics
from parley.core.redis import open_redis
from parley.core.settings import LimitSettings, RedisSettings

REPEATS = 7
TOKENS, HITS, LINES = 2_000, 1_000, 2_000
HITS_A_BUCKET = 50  # as a caller within the usual limits has
NOWHERE = "unix:///nowhere.sock"


def tokens() -> list[Row]:
    """Return what signing and checking cost."""
    codec, now = TokenCodec(["0123456789abcdefghijklmnopqrstuvwxyz-bench"], "parley", "parley"), int(time.time())
    claims = AccessClaims(
        typ="access",
        iss="parley",
        aud="parley",
        sub=new_id(),
        sid=new_id(),
        jti=new_id().hex,
        iat=now,
        exp=now + 900,
        role="user",
        guest=False,
    )
    token = codec.encode(claims)
    return [
        Row("TokenCodec.encode", _repeated(TOKENS, lambda: codec.encode(claims)), "us"),
        Row("TokenCodec.decode", _repeated(TOKENS, lambda: codec.decode(token, AccessClaims, now)), "us"),
    ]


async def limits(redis_url: str) -> list[Row]:
    """Return what one hit costs: decided by Valkey, and by this process while Valkey is away."""
    rows = []
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))  # the table, and nothing else
    for name, url in (("on Valkey", redis_url), ("Valkey away", NOWHERE)):
        redis: Redis = open_redis(RedisSettings.model_validate({"url": url}))
        limiter = Limiter(Line(redis), LimitSettings(), lambda _: None, Metrics().limits_hit)
        scope = {"type": "http", "client_address": ClientAddress(ip_address("127.0.0.1"), "http")}
        connection = HTTPConnection(scope)
        hits = 0

        async def hit() -> None:
            nonlocal hits
            hits += 1
            bucket = f"bench.{hits // HITS_A_BUCKET}"
            await limiter.check(connection, "general", bucket, by_address=True)  # noqa: B023  # used in this turn

        await hit()
        rows.append(Row(f"Limiter.check, {name}, one at a time", await _repeated_async(HITS, hit), "us"))
        await redis.aclose()
    return rows


def log_lines() -> list[Row]:
    """Return what a request's line costs its caller; it is written by a thread."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        writer = configure_logging(level="info", pretty=False, stream=nowhere)
        log = structlog.get_logger("parley.access")
        structlog.contextvars.bind_contextvars(request_id=new_id().hex)

        def line() -> None:
            log.info("request_served", method="GET", path="/auth/me", status=200, ms=1.2, client="127.0.0.1")

        row = Row("log line, to the writer's queue", _repeated(LINES, line), "us")
        writer.close()
    return [row]


def _repeated(count: int, call: Callable[[], object]) -> list[float]:
    figures = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(count):
            call()
        figures.append((time.perf_counter() - began) / count * 1e6)
    return figures


async def _repeated_async(count: int, call: Callable[[], Awaitable[object]]) -> list[float]:
    figures = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(count):
            await call()
        figures.append((time.perf_counter() - began) / count * 1e6)
    return figures
