"""What Redis holds under a person's name, taken away: found by the ids in its keys. All there ends by itself, too.

Tapes of conversations that go on may be dropped: whoever writes one feeds it again.
"""

import re
from collections.abc import Collection, Sequence
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from parley.agents.privacy import CACHE_KEYS
from parley.core.clock import Clock

log = structlog.get_logger(__name__)

AT_ONCE = 1000  # keys looked at in one round trip: about a millisecond of Redis
REWRITE_S = 10.0  # what rewriting the file of a Redis of ours takes at most
LOOK_S = 0.1
_CONVERSATION = re.compile(rb"parley:\{([0-9a-f]{32})\}")


async def forget(redis: Redis, user_id: UUID, conversation_ids: Collection[UUID]) -> int:
    """Remove every key of this person and these conversations, and all kept answers; return how many."""
    names, tags, gone = (str(user_id).encode(), user_id.hex.encode()), {id_.hex.encode() for id_ in conversation_ids}, 0
    cursor = 0
    while True:
        cursor, keys = await redis.scan(cursor, match="parley:*", count=AT_ONCE)
        found = [key for key in keys if isinstance(key, bytes) and _is_theirs(key, names, tags)]
        for key in found:  # one by one: they live on different nodes of a cluster
            gone += await redis.unlink(key)
        if not cursor:
            return gone


async def rewrite_file(redis: Redis, clock: Clock) -> bool:
    """Let a Redis that keeps a log of all writes on disk write it anew; return whether nothing old is left there."""
    try:
        if not await _has_file(redis):
            return True
        deadline = clock.monotonic() + REWRITE_S
        await _until_written(redis, clock, deadline)  # one that began before does not count
        await redis.bgrewriteaof()
        await _until_written(redis, clock, deadline)
    except (ResponseError, TimeoutError) as error:
        log.warning("redis_file_not_rewritten", reason=str(error) or type(error).__name__)
        return False
    return True


async def _has_file(redis: Redis) -> bool:
    persistence = await redis.info("persistence")
    return bool(persistence.get("aof_enabled"))


async def _until_written(redis: Redis, clock: Clock, deadline: float) -> None:
    while True:
        told = await redis.info("persistence")
        if not told.get("aof_rewrite_in_progress") and not told.get("aof_rewrite_scheduled"):
            return
        if clock.monotonic() > deadline:
            raise TimeoutError
        await clock.sleep(LOOK_S)


def _is_theirs(key: bytes, names: Sequence[bytes], tags: Collection[bytes]) -> bool:
    tag = _CONVERSATION.match(key)
    if tag is not None:
        return tag[1] in tags
    return key.startswith(CACHE_KEYS.encode()) or any(name in key for name in names)
