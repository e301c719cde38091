"""One connection of our own to Redis: packed commands out, parsed answers in, nothing between.

redis-py makes it (address, TLS, login, database). Its pipeline costs 27 to 57 us of CPU a command and its PubSub 24 to
29 us a message, where packing and parsing cost 4 to 6 and 1 to 2; these two paths see thousands a second.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import InvalidResponse

READ_BYTES = 65_536
_NOTHING = object()


def pack(*arguments: str | int | bytes) -> bytes:
    """Return a command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]  # its stub knows one argument only
    return packed


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
        self._parser = hiredis.Reader(protocolError=InvalidResponse, notEnoughData=_NOTHING)

    @classmethod
    async def open(cls, redis: Redis) -> "Link":
        """Connect and log in, as the client's pool would; `redis` is asked for nothing else."""
        pool = redis.connection_pool
        # RESP3, whatever the URL says: it alone tells a message from an answer.
        connection: AbstractConnection = pool.connection_class(**{**pool.connection_kwargs, "protocol": 3})
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            return cls(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

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
            while (reply := parser.gets()) is not _NOTHING:
                received.append(reply)
        return received

    async def close(self) -> None:
        """Hang up."""
        await self._connection.disconnect(nowait=True)


class Pipe:
    """A link for commands with answers, one round trip at a time; it connects when first used, and again."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._link: Link | None = None
        self._turn = asyncio.Lock()

    async def run(self, commands: Sequence[bytes]) -> list[Any]:
        """Return one answer for each packed command, an error as a `hiredis.ReplyError`; raise where some are missing.

        Whatever interrupts it, a deadline too, closes the connection: it would be out of step with its answers.
        """
        async with self._turn:
            link, self._link = self._link, None
            if link is not None and not link.is_open:
                await link.close()
                link = None
            if link is None:
                link = await Link.open(self._redis)
            try:
                link.send(b"".join(commands))
                answers: list[Any] = []
                while len(answers) < len(commands):
                    received = await link.receive()
                    answers += [answer for answer in received if not isinstance(answer, hiredis.PushNotification)]
                self._link = link
            finally:
                if self._link is None:
                    await link.close()
        return answers

    async def close(self) -> None:
        """Hang up; whoever runs something later connects again."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()
