"""What one worker tells another directly: stop this reply. Only a hint: the owner's beat reads it from its rows."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis

from parley.chat.wire import control_key_of
from parley.core.redis import REDIS_AWAY

log = structlog.get_logger(__name__)

KEEP_COMMANDS = 1000
KEEP_MS = 60_000
BLOCK_MS = 300  # below the deadline of a Redis answer


class Control:
    """This worker's stream of commands, and its way to those of others."""

    def __init__(self, redis: Redis, boot_id: UUID) -> None:
        self._redis = redis
        self._boot_id = boot_id
        self._last: bytes | str = "0-0"

    async def tell(self, owner: UUID, message_id: UUID) -> None:
        """Ask another worker to stop a reply."""
        key = control_key_of(owner)
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.xadd(key, {"stop": message_id.hex}, maxlen=KEEP_COMMANDS)
                pipeline.pexpire(key, KEEP_MS)
                await pipeline.execute()
        except REDIS_AWAY:
            return  # it reads its rows twice a second

    async def listen(self, stop: Callable[[UUID], None]) -> None:
        """Obey until the connection breaks; the owner of this task runs it again."""
        try:
            while True:
                found: Any = await self._redis.xread(
                    {control_key_of(self._boot_id): self._last}, block=BLOCK_MS, count=100
                )
                for identifier, fields in (entry for _, entries in found or () for entry in entries):
                    self._last = identifier
                    if b"stop" in fields:
                        stop(UUID(fields[b"stop"].decode()))
        except REDIS_AWAY:
            return
