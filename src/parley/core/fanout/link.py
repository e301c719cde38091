"""The subscriber's connection to Redis: whatever comes is read as it comes, and sent at once what is to be sent.

redis-py's PubSub costs 24 to 29 us of CPU a message, parsing costs 1 to 2; this path sees thousands a second.
"""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from parley.core.line import NOTHING, connect, new_parser

READ_BYTES = 65_536


class Link:
    """An open connection. Waits for nothing but the answers; whoever waits for those sets the deadline."""

    def __init__(self, connection: AbstractConnection) -> None:
        # The two ends of the stream are private in redis-py, and all we want of it.
        reader, writer = connection._reader, connection._writer  # noqa: SLF001
        if reader is None or writer is None:
            raise ConnectionResetError("Redis closed the connection")
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._parser = new_parser()

    @classmethod
    async def open(cls, redis: Redis) -> "Link":
        """Connect and log in."""
        return cls(await connect(redis))

    @property
    def is_open(self) -> bool:
        """Whether nothing is known of an end."""
        return not self._writer.is_closing() and not self._reader.at_eof()

    def send(self, packed: bytes) -> None:
        """Send at once what the socket takes, and the rest when it takes more."""
        if self._writer.is_closing():
            raise ConnectionResetError("Redis closed the connection")
        self._writer.write(packed)

    async def receive(self) -> list[Any]:
        """Return all that has come, at least one: messages are `hiredis.PushNotification`, errors are returned."""
        received: list[Any] = []
        parser = self._parser
        while not received:
            data = await self._reader.read(READ_BYTES)
            if not data:
                raise ConnectionResetError("Redis closed the connection")
            parser.feed(data)
            while (reply := parser.gets()) is not NOTHING:
                received.append(reply)
        return received

    async def close(self) -> None:
        """Hang up."""
        await self._connection.disconnect(nowait=True)
