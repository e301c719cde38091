"""One HTTP connection: nobody holds it without asking for anything."""

import asyncio
import time

import pytest
from tests.core.edge import GET, connected, serving

from parley.core.serving import Bounds

SHORT = Bounds(head_timeout_s=0.4)


async def test_a_request_is_answered_and_the_connection_kept() -> None:
    async with serving(bounds=SHORT) as edge, connected(edge.port) as client:
        for _ in range(2):
            await client.send(GET)
            assert (await client.answer()).endswith(b"ok")
            await asyncio.sleep(0.6)  # the deadline is for a head, not for the pause between two


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        pytest.param(b"", b"", id="silent"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: serv", b"HTTP/1.1 408 ", id="half a head"),
        pytest.param(b"\r\n\r\n", b"", id="empty lines"),
        pytest.param(GET, b"HTTP/1.1 200 ", id="an answer and then half a head"),
    ],
)
async def test_whoever_does_not_ask_is_let_go(said: bytes, answer: bytes) -> None:
    async with serving(bounds=SHORT) as edge, connected(edge.port) as client:
        await client.send(said)
        if said == GET:
            await client.answer()
            await client.send(b"GET / HT")
            answer = b"HTTP/1.1 408 "
        began = time.monotonic()
        got = await client.rest()
        assert got.startswith(answer)
        assert bool(got) == bool(answer)
        assert 0.3 < time.monotonic() - began < 3
        assert edge.server.server_state.connections == set()


async def test_a_head_that_trickles_gets_no_more_time() -> None:
    async with serving(bounds=SHORT) as edge, connected(edge.port) as client:
        ended = asyncio.create_task(client.rest())
        sent = 0
        for letter in GET:
            if ended.done():
                break
            await client.send(bytes([letter]))
            await asyncio.sleep(0.05)
            sent += 1
        await ended
        assert sent < len(GET)
        assert edge.app.scopes == []


async def test_a_slow_body_and_a_slow_answer_are_not_the_head() -> None:
    async with serving(bounds=SHORT) as edge, connected(edge.port) as client:
        edge.app.hold.clear()
        await client.send(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na")
        await asyncio.sleep(0.6)
        await client.send(b"bc")
        await asyncio.sleep(0.6)
        edge.app.hold.set()
        assert (await client.answer()).endswith(b"ok")


async def test_empty_lines_after_an_answer_do_not_hold_a_connection() -> None:
    async with serving(bounds=SHORT) as edge, connected(edge.port) as client:
        await client.send(GET)
        await client.answer()
        await client.send(b"\r\n")
        began = time.monotonic()
        await client.rest()
        assert time.monotonic() - began < 3


async def test_a_head_without_end_is_refused() -> None:
    async with serving() as edge, connected(edge.port) as client:
        await client.send(b"GET / HTTP/1.1\r\n")
        for number in range(200):
            await client.send(b"X-%d: %s\r\n" % (number, b"a" * 1000))
        assert (await client.rest()).startswith(b"HTTP/1.1 431 ")
        assert edge.app.scopes == []


async def test_applications_find_how_to_drop_a_viewer() -> None:
    async with serving() as edge, connected(edge.port) as client:
        edge.app.hold.clear()
        await client.send(GET)
        while not edge.app.scopes:
            await asyncio.sleep(0.01)
        extension = edge.app.scopes[0]["extensions"]["parley"]
        assert extension["buffered"]() == 0
        extension["abort"]()
        assert await client.rest() == b""
        edge.app.hold.set()


async def test_a_reader_that_stops_holds_64_kib_and_not_more() -> None:
    async with serving() as edge, connected(edge.port, limit=1024) as client:
        edge.app.hold.clear()
        await client.send(GET)
        while not edge.app.scopes:
            await asyncio.sleep(0.01)
        [protocol] = edge.server.server_state.connections
        assert protocol.transport.get_write_buffer_limits() == (16_384, 65_536)
        edge.app.hold.set()
