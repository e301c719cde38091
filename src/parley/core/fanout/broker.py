"""Hints between workers: one subscriber connection, at most once, in the order of one channel.

What is published while the connection is away is lost, silently: whoever listens also reads the truth from time to
time. A sink is called on the loop with the bytes and must not wait.
"""

import asyncio
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from parley.core.redis import REDIS_AWAY

log = structlog.get_logger(__name__)

Sink = Callable[[bytes], None]
POLL_S = 1.0
RETRY_S = 0.5
WORTH_SAYING = 2  # one connection that breaks is the network's daily life


class Broker:
    """This worker's ear on the channels it asked for, and its voice."""

    def __init__(self, redis: Redis, deadline_s: float) -> None:
        self._redis = redis
        self._deadline_s = deadline_s
        self._sinks: dict[bytes, Sink] = {}
        self._failures = 0

    def listen(self, channel: str, sink: Sink) -> None:
        """Deliver what is published on `channel` to `sink`, from the next (re)connection on; call before `run`."""
        self._sinks[channel.encode()] = sink

    async def publish(self, channel: str, data: bytes) -> None:
        """Tell the other workers; raises what Redis raises, within the deadline."""
        async with asyncio.timeout(self._deadline_s):
            await self._redis.publish(channel, data)

    async def run(self) -> None:
        """Subscribe and dispatch until the connection breaks; the owner runs it again."""
        try:
            async with self._redis.pubsub() as subscriber:
                await subscriber.subscribe(*self._sinks)
                self._failures = 0
                await self._dispatch(subscriber)
        except REDIS_AWAY as error:
            self._failures += 1
            if self._failures == WORTH_SAYING:
                log.warning("broker_lost", reason=type(error).__name__)
            await asyncio.sleep(RETRY_S)

    async def _dispatch(self, subscriber: PubSub) -> None:
        while True:
            message = await subscriber.get_message(ignore_subscribe_messages=True, timeout=POLL_S)
            if message is None:
                continue
            try:
                self._sinks[message["channel"]](message["data"])
            except Exception:
                log.exception("sink_failed", channel=message["channel"].decode())
