"""Frames on our own server: written where the news arrives, and waiting only for a peer that does not read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest
from tests.core.edge import TEXT, Client, connected, serving

from parley.chat.connection import Gone
from parley.chat.websocket import FramedTransport
from parley.core.websocket_protocol import text_frame

SIZE = 60_000


@asynccontextmanager
async def unread() -> AsyncIterator[tuple[Client, FramedTransport, Awaitable[None]]]:
    """Write so much that the next frame has to wait for the peer; yields what is left to wait for."""
    async with serving() as edge, connected(edge.port, limit=1024) as client:
        await client.upgrade()
        transport = FramedTransport(edge.app.scopes[0]["extensions"]["parley"])
        for _ in range(500):
            rest = transport.write([text_frame(b"a" * SIZE)])
            if rest is not None:
                yield client, transport, rest
                return
            await asyncio.sleep(0)
        raise AssertionError("the peer took everything and read nothing")


async def test_a_frame_for_a_peer_that_does_not_read_waits_and_comes_in_its_turn() -> None:
    async with unread() as (client, transport, rest):
        waiting = asyncio.ensure_future(rest)
        await asyncio.sleep(0.05)
        assert not waiting.done()
        while not waiting.done():
            assert await client.frame() == (TEXT, b"a" * SIZE)
        assert transport.write([text_frame(b"last")]) is None
        while (found := await client.frame()) == (TEXT, b"a" * SIZE):
            pass
        assert found == (TEXT, b"last")


async def test_a_frame_that_waits_for_a_peer_that_leaves_is_given_up() -> None:
    async with unread() as (_, transport, rest):
        waiting = asyncio.ensure_future(rest)
        await asyncio.sleep(0.05)
        transport.abort()
        with pytest.raises(Gone):
            await waiting
        with pytest.raises(Gone):
            transport.write([text_frame(b"more")])
