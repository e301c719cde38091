"""What waits on another worker's listening socket: taken by whoever is ready, left alone by all others."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from tests.core.edge import GET, connected, serving

from parley.core.health import Readiness
from parley.core.neighbours import AT_ONCE, Neighbours


@pytest.fixture
def dead() -> Iterator[socket.socket]:
    """The listening socket of a worker that accepts nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


async def test_all_that_wait_for_a_dead_worker_are_answered(dead: socket.socket) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(port_of(dead))) for _ in range(3 * AT_ONCE)]
        for client in clients:
            await client.send(GET)
        edge = await stack.enter_async_context(serving(neighbours=Neighbours([dead.dup()])))
        answers = await asyncio.gather(*(client.answer() for client in clients))
        assert all(answer.endswith(b"ok") for answer in answers)
        await clients[0].send(GET)  # it is served on like any other
        assert (await clients[0].answer()).endswith(b"ok")
        async with connected(port_of(dead)) as late, connected(edge.port) as own:
            for client in (late, own):
                await client.send(GET)
                assert (await client.answer()).endswith(b"ok")


async def test_who_is_not_ready_helps_nobody(dead: socket.socket) -> None:
    readiness = Readiness("starting")
    neighbours = Neighbours([dead.dup()])
    async with serving(neighbours=neighbours, readiness=readiness) as edge, connected(port_of(dead)) as client:
        await client.send(GET)
        await asyncio.sleep(0.4)
        assert edge.app.scopes == []
        readiness.clear("starting")
        assert (await client.answer()).endswith(b"ok")


async def test_whoever_drains_leaves_them_to_the_others(dead: socket.socket) -> None:
    copy = dead.dup()
    async with serving(neighbours=Neighbours([copy])) as edge, connected(edge.port) as busy:
        edge.app.hold.clear()
        await busy.send(GET)
        while not edge.app.scopes:
            await asyncio.sleep(0.01)
        edge.server.end()
        async with connected(port_of(dead)) as client:
            await client.send(GET)
            await asyncio.sleep(0.4)
            assert len(edge.app.scopes) == 1
            assert copy.fileno() == -1  # else the kernel would go on to send connections there
            async with serving(neighbours=Neighbours([dead.dup()])):
                assert (await client.answer()).endswith(b"ok")


async def test_one_that_has_left_keeps_nobody_from_the_rest(dead: socket.socket) -> None:
    async with connected(port_of(dead)) as gone, connected(port_of(dead)) as client:
        gone.writer.transport.abort()
        await client.send(GET)
        async with serving(neighbours=Neighbours([dead.dup()])):
            assert (await client.answer()).endswith(b"ok")


async def test_no_number_is_lost(dead: socket.socket) -> None:
    async with serving(neighbours=Neighbours([dead.dup()])):
        before = len(os.listdir("/dev/fd"))  # noqa: PTH208  # counted, not read
        for _ in range(10):
            async with connected(port_of(dead)) as client:
                await client.send(GET)
                await client.answer()
        await asyncio.sleep(0.1)
        assert len(os.listdir("/dev/fd")) <= before + 1  # noqa: PTH208  # counted, not read
