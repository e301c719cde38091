"""The end of a server: what is under way finishes, what is idle goes, and what is stuck is cut."""

import asyncio
import signal
import socket
import time

import pytest
from tests.core.edge import GET, TEXT, connected, frame, serving

from parley.core.health import Readiness


async def test_a_request_under_way_is_finished_and_the_door_is_closed() -> None:
    async with serving() as edge, connected(edge.port) as client:
        edge.app.hold.clear()
        await client.send(GET)
        while not edge.app.scopes:
            await asyncio.sleep(0.01)
        edge.server.end()
        await asyncio.sleep(0.3)
        assert edge.drain.is_draining
        assert edge.readiness.reasons == ("draining",)
        async with connected(edge.port) as late:  # the kernel takes it, for whoever has the socket next
            await late.send(GET)
            await asyncio.sleep(0.2)
            assert len(edge.app.scopes) == 1
        edge.app.hold.set()
        assert b"connection: close" in await client.answer()
        assert await client.rest() == b""


async def test_idle_connections_are_closed_and_it_is_quick() -> None:
    async with serving() as edge, connected(edge.port) as client, connected(edge.port) as silent:
        await client.send(GET)
        await client.answer()
        await asyncio.sleep(0.3)
        began = time.monotonic()
        edge.server.end()
        assert await client.rest() == b""
        assert await silent.rest() == b""
        assert time.monotonic() - began < 1.2


@pytest.mark.parametrize("asked_before", [False, True], ids=["fresh", "kept"])
async def test_a_request_that_was_sent_and_not_read_is_answered(asked_before: bool) -> None:
    loop = asyncio.get_running_loop()
    async with serving() as edge:
        with socket.create_connection(("127.0.0.1", edge.port)) as client:
            client.setblocking(False)  # noqa: FBT003  # the standard library's way
            if asked_before:
                await loop.sock_sendall(client, GET)
                await loop.sock_recv(client, 65_536)
            await asyncio.sleep(0.3)
            client.send(GET)  # the kernel has it, the loop has not looked yet
            [connection] = edge.server.server_state.connections
            connection.shutdown()
            answer = await asyncio.wait_for(loop.sock_recv(client, 65_536), 5)
            assert answer.endswith(b"ok")
            assert b"connection: close" in answer
            assert await asyncio.wait_for(loop.sock_recv(client, 65_536), 5) == b""


async def test_hooks_are_told_at_once_and_awaited_while_sockets_live() -> None:
    async with serving() as edge, connected(edge.port) as client:
        await client.upgrade()
        finish = asyncio.Event()
        told: list[str] = []
        edge.drain.on_begin(lambda: told.append("told"))
        edge.drain.finish(finish.wait)  # type: ignore[arg-type]  # what it returns is not looked at
        edge.server.end()
        await asyncio.sleep(0.3)
        assert told == ["told"]
        await client.send(frame(TEXT, b"still here"))
        assert await client.frame() == (TEXT, b"still here")
        finish.set()
        assert await client.close_code() == 1012


async def test_hooks_do_not_hold_it_for_longer_than_the_grace() -> None:
    async with serving(graceful_s=0.4) as edge:
        edge.drain.finish(asyncio.Event().wait)  # type: ignore[arg-type]  # what it returns is not looked at
        began = time.monotonic()
        edge.server.end()
        while "lifespan.shutdown" not in edge.app.messages:
            await asyncio.sleep(0.01)
        assert 0.3 < time.monotonic() - began < 2


async def test_requests_that_do_not_end_are_over_before_resources_close() -> None:
    async with serving(graceful_s=0.4) as edge, connected(edge.port) as client:
        edge.app.hold.clear()
        await client.send(GET)
        while not edge.app.scopes:
            await asyncio.sleep(0.01)
        edge.server.end()
        await client.rest()
        while "lifespan.shutdown" not in edge.app.messages:
            await asyncio.sleep(0.01)
        assert edge.app.messages == ["ended", "lifespan.shutdown"]


async def test_a_second_interrupt_hurries_and_another_term_does_not() -> None:
    async with serving(graceful_s=30) as edge:
        edge.drain.finish(asyncio.Event().wait)  # type: ignore[arg-type]  # what it returns is not looked at
        began = time.monotonic()
        edge.server.end(signal.SIGTERM)
        edge.server.end(signal.SIGTERM)
        await asyncio.sleep(0.4)
        assert "lifespan.shutdown" not in edge.app.messages
        edge.server.end(signal.SIGINT)
        while "lifespan.shutdown" not in edge.app.messages:
            await asyncio.sleep(0.01)
        assert time.monotonic() - began < 3


async def test_a_viewer_that_does_not_read_does_not_hold_it() -> None:
    async with serving(graceful_s=30) as edge, connected(edge.port, limit=1024) as client:
        await client.upgrade()
        [protocol] = edge.server.server_state.connections
        protocol.transport.write(b"a" * 20_000_000)
        began = time.monotonic()
        edge.server.end()
        while "lifespan.shutdown" not in edge.app.messages:
            await asyncio.sleep(0.01)
        assert time.monotonic() - began < 8


async def test_a_successor_leaves_connections_alone_until_it_is_ready() -> None:
    readiness = Readiness("starting")
    async with serving(when_ready=readiness) as edge, connected(edge.port) as client:
        await client.send(GET)
        await asyncio.sleep(0.3)
        assert edge.app.scopes == []
        assert not edge.server.started
        readiness.clear("starting")
        assert (await client.answer()).endswith(b"ok")


async def test_a_successor_that_never_gets_ready_can_be_ended() -> None:
    async with serving(when_ready=Readiness("starting")) as edge:
        await asyncio.sleep(0.2)
        assert not edge.server.started
