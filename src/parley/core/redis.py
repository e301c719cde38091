"""Redis: one client a worker, short deadlines, no silent repeats.

The library's own defaults wait a minute on a server that hangs and repeat commands that are not idempotent.
"""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from parley.core.settings import RedisSettings

# What a call on a Redis that is away, hung or full may raise.
REDIS_AWAY = (RedisError, OSError, TimeoutError)


def open_redis(settings: RedisSettings) -> Redis:
    """Return the client; it connects when first used."""
    if settings.url is None:
        raise ValueError("Redis needs a URL")
    # A burst waits for a connection instead of being told that there is none: that would look like an absence.
    pool = BlockingConnectionPool.from_url(
        settings.url.get_secret_value(),
        timeout=settings.timeout_s,
        socket_timeout=settings.timeout_s,
        socket_connect_timeout=settings.connect_timeout_s,
        max_connections=settings.pool_size,
        retry=Retry(NoBackoff(), 0),
        client_name="parley",
        # Otherwise every new connection reads the version of the library from disk, on the loop.
        driver_info=None,
    )
    return Redis.from_pool(pool)
