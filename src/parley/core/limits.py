"""How often a caller may ask: decided on Redis for all workers together, or by this worker alone while Redis is away.

Uses the limit grammar and the exception of slowapi, and none of its machinery: that blocks the loop, skips included
routers and breaks streams.
"""

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal

import structlog
from fastapi import Depends
from fastapi.dependencies.models import Dependant
from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from prometheus_client import Counter
from slowapi.errors import RateLimitExceeded
from slowapi.wrappers import Limit
from starlette.requests import HTTPConnection, Request

from parley.core.line import Line, Script
from parley.core.redis import REDIS_AWAY
from parley.core.settings import LimitSettings
from parley.core.windows import Windows

log = structlog.get_logger(__name__)

PREFIX = "parley:limit"
DROP_NEWEST = b"return redis.call('lpop', KEYS[1])"  # `limits` keeps the times in a list, the newest first
REST_S = 1.0  # after a failure Redis is left alone this long: one caller a second pays its deadline, not each
LimitName = Literal["general", "lists", "ask", "login", "register", "assets"]
Uncount = Callable[[], Awaitable[None]]
Identify = Callable[[HTTPConnection], str | None]


class Limiter:
    """The buckets of this service."""

    def __init__(self, line: Line, settings: LimitSettings, identify: Identify, hit: Counter) -> None:
        self._shared = MovingWindowRateLimiter(_storage_on(line, settings.deadline_s))
        self._drop_newest = _sent(line, DROP_NEWEST, settings.deadline_s)
        self._own = Windows()
        self._identify = identify
        self._hit = hit
        self._resting_until = 0.0
        self._items: dict[LimitName, RateLimitItem] = {
            "general": parse(settings.general),
            "lists": parse(settings.lists),
            "ask": parse(settings.ask),
            "login": parse(settings.login),
            "register": parse(settings.register_),
            "assets": parse(settings.assets),
        }

    @property
    def is_shared(self) -> bool:
        """Whether Redis decides, as far as this worker knows."""
        return time.monotonic() >= self._resting_until

    async def check(self, connection: HTTPConnection, name: LimitName, bucket: str, *, by_address: bool) -> None:
        """Count one request; raise RateLimitExceeded when the caller has used up the bucket."""
        caller = None if by_address else self._identify(connection)
        if caller is None:
            caller = f"address:{connection.scope['client_address'].limit_key}"
        await self.count(caller, name, bucket)

    async def count(self, caller: str, name: LimitName, bucket: str) -> Uncount:
        """Do the same for a caller whose key is known; return what makes it uncounted."""
        item = self._items[name]
        allowed, reset_at = await self._decide(item, bucket, caller)
        if not allowed:
            self._hit.labels(name).inc()
            raise _exceeded(item, reset_at)
        return partial(self._uncount, item, bucket, caller)

    async def _decide(self, item: RateLimitItem, *key: str) -> tuple[bool, float]:
        verdict = await self._ask_redis(item, *key) if self.is_shared else None
        if verdict is None or verdict[0]:
            # Also what Redis let pass: so that this worker knows what was used, should Redis go away.
            own = self._own.hit(item.key_for(*key), item.amount, item.get_expiry(), time.time())
        return own if verdict is None else verdict

    async def _uncount(self, item: RateLimitItem, bucket: str, caller: str) -> None:
        key = bucket, caller
        # Whoever is refused again and again is counted all the same: a refusal costs us as much.
        if not (await self._decide(self._items["general"], f"{bucket}.uncounted", caller))[0]:
            return
        self._own.take_back(item.key_for(*key), item.get_expiry())
        if self.is_shared:
            with suppress(*REDIS_AWAY):  # it is forgotten by itself, later
                await self._drop_newest([f"{PREFIX}:{item.key_for(*key)}"], [])

    async def _ask_redis(self, item: RateLimitItem, *key: str) -> tuple[bool, float] | None:
        try:
            if await self._shared.hit(item, *key):
                return True, 0.0
            stats = await self._shared.get_window_stats(item, *key)
        except REDIS_AWAY as error:
            if self.is_shared:
                log.warning("limits_fell_back", reason=type(error).__name__)
            self._resting_until = time.monotonic() + REST_S
            return None
        return False, stats.reset_time


def limit(name: LimitName, *, by_address: bool = False) -> Any:
    """Return the dependency that puts a route under a limit, in a bucket of its own."""

    async def limited(connection: HTTPConnection) -> None:
        limiter: Limiter = connection.state.limiter
        connection.scope["limited"] = True
        endpoint = connection.scope["endpoint"]
        await limiter.check(connection, name, f"{endpoint.__module__}.{endpoint.__qualname__}", by_address=by_address)

    limited.limit_name = name  # type: ignore[attr-defined]  # what the test over the route table looks for
    return Depends(limited)


async def charge(dependant: Dependant, request: Request) -> None:
    """Count a request whose body could not be read, which FastAPI finds out before it asks any dependency."""
    for inner in dependant.dependencies:
        if getattr(inner.call, "limit_name", "none") != "none" and inner.call is not None:
            await inner.call(request)


async def _unlimited() -> None:
    """For probes: an orchestrator that asks often must never be told to slow down."""


_unlimited.limit_name = "none"  # type: ignore[attr-defined]

Unlimited = Annotated[None, Depends(_unlimited)]
General = Annotated[None, limit("general")]
# Signed in or not: whoever holds many accounts is still one caller here.
GeneralByAddress = Annotated[None, limit("general", by_address=True)]
Lists = Annotated[None, limit("lists")]
Ask = Annotated[None, limit("ask")]
Login = Annotated[None, limit("login", by_address=True)]
Register = Annotated[None, limit("register", by_address=True)]
Assets = Annotated[None, limit("assets", by_address=True)]


def _storage_on(line: Line, deadline_s: float) -> RedisStorage:
    """Return the storage of `limits`, its two scripts sent over our line instead of its client."""
    storage = RedisStorage(
        "async+redis://",
        implementation="redispy",
        connection_pool=line.redis.connection_pool,  # type: ignore[arg-type]  # its hints know only plain options
        key_prefix=PREFIX,
    )
    bridge: Any = storage.bridge
    bridge.lua_acquire_moving_window = _sent(line, bridge.SCRIPT_ACQUIRE_MOVING_WINDOW, deadline_s)
    bridge.lua_moving_window = _sent(line, bridge.SCRIPT_MOVING_WINDOW, deadline_s)
    return storage


def _sent(line: Line, source: bytes, deadline_s: float) -> Callable[[Sequence[str], Sequence[float]], Awaitable[Any]]:
    return partial(Script(line, source, "limit").run, within_s=deadline_s)


def _exceeded(item: RateLimitItem, reset_at: float) -> RateLimitExceeded:
    wait_s = max(1, math.ceil(reset_at - time.time()))
    error = RateLimitExceeded(
        Limit(
            item,
            key_func=lambda: "",
            scope=None,
            per_method=False,
            methods=None,
            error_message=None,
            exempt_when=None,
            cost=1,
            override_defaults=False,
        )
    )
    error.headers = {
        "Retry-After": str(wait_s),
        "RateLimit-Limit": str(item.amount),
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": str(wait_s),
        "RateLimit-Policy": f"{item.amount};w={item.get_expiry()}",
    }
    return error
