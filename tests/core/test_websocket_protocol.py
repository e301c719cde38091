"""One WebSocket: floods end it before they hold the loop, and whoever is gone is let go."""

import asyncio
import time
import weakref
from typing import Any

import pytest
from tests.core.edge import BINARY, CLOSE, CONT, PING, PONG, TEXT, UPGRADE, connected, frame, serving
from uvicorn.protocols.utils import ClientDisconnected

from parley.core.serving import Bounds
from parley.core.websocket_protocol import text_frame

HELD_S = 0.15  # of CPU: a busy neighbour is not the flood's doing


async def test_messages_pass_whole_or_in_pieces() -> None:
    async with serving() as edge, connected(edge.port) as client:
        await client.upgrade()
        await client.send(frame(TEXT, "grüße".encode()))
        assert await client.frame() == (TEXT, "grüße".encode())
        pieces = [frame(TEXT, b"a", fin=False), *(frame(CONT, b"b", fin=False) for _ in range(200)), frame(CONT, b"c")]
        await client.send(b"".join(pieces))
        assert await client.frame() == (TEXT, b"a" + b"b" * 200 + b"c")
        await client.send(frame(PING, b"there?"))
        assert await client.frame() == (PONG, b"there?")
        await client.send(frame(CLOSE, (1000).to_bytes(2)))
        assert await client.close_code() == 1000


@pytest.mark.parametrize(
    ("flood", "code"),
    [
        pytest.param(frame(BINARY, b"a", fin=False) + frame(CONT, fin=False) * 150_000, 4400, id="continuations"),
        pytest.param(frame(PING) * 50_000, 4429, id="pings"),
        pytest.param(frame(PONG) * 50_000, 4429, id="pongs"),
        pytest.param(frame(TEXT, b"a") * 100_000, 4429, id="messages"),
        pytest.param((frame(TEXT, b"a", fin=False) + frame(CONT, b"b") + frame(PING)) * 20_000, 4429, id="all of them"),
        pytest.param(frame(TEXT, b"a" * 60_000, fin=False) + frame(CONT, b"a" * 6_000), 1009, id="too many bytes"),
        pytest.param(frame(BINARY, b"a" * 17_000_000), 1009, id="one enormous frame"),
    ],
)
async def test_a_flood_ends_the_connection_and_holds_nobody(flood: bytes, code: int) -> None:
    async with serving() as edge, connected(edge.port) as client, connected(edge.port) as other:
        await client.upgrade()
        await other.upgrade()
        sending = asyncio.create_task(client.send(flood))
        longest = 0.0
        while not edge.app.ended:
            began = time.thread_time()
            await other.send(frame(TEXT, b"still there?"))
            await other.frame()
            longest = max(longest, time.thread_time() - began)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        print(f"the other waited for {longest * 1000:.0f} ms of CPU at most")
        assert longest < HELD_S
        assert {"type": "websocket.disconnect", "code": code} == {
            name: value for name, value in edge.app.messages[-2].items() if name != "reason"
        }


async def test_a_flood_is_told_why_in_its_close_frame() -> None:
    async with serving(bounds=Bounds(control_frames_per_s=10)) as edge, connected(edge.port) as client:
        await client.upgrade()
        await client.send(frame(PING) * 12)
        assert await client.close_code() == 4429


async def test_the_allowance_is_for_a_second_and_comes_back() -> None:
    async with serving(bounds=Bounds(control_frames_per_s=10)) as edge, connected(edge.port) as client:
        await client.upgrade()
        for _ in range(3):
            await client.send(frame(PING) * 10)
            assert [await client.frame() for _ in range(10)] == [(PONG, b"")] * 10
            await asyncio.sleep(1.05)


@pytest.mark.parametrize("early", [frame(PING) * 50_000, b"\xff\xff\xff\xff" * 10], ids=["flood", "nonsense"])
async def test_frames_before_the_answer_are_bounded_too(early: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as edge, connected(edge.port) as client:
        edge.app.hold.clear()
        await client.send(UPGRADE + b"\r\n")
        await asyncio.sleep(0.1)
        await client.send(early)
        assert await client.rest() == b""
        edge.app.hold.set()
        while not edge.app.ended:
            await asyncio.sleep(0.01)
        assert edge.server.server_state.connections == set()
    assert "Fatal error" not in caplog.text


async def test_a_head_the_library_refuses_is_answered_and_let_go() -> None:
    async with serving() as edge, connected(edge.port) as client:
        await client.send(UPGRADE + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 431 ")
        assert edge.server.server_state.connections == set()


async def test_applications_find_how_to_drop_a_viewer() -> None:
    async with serving() as edge, connected(edge.port, limit=1024) as client:
        await client.upgrade()
        extension = edge.app.scopes[0]["extensions"]["parley"]
        [protocol] = edge.server.server_state.connections
        assert extension["buffered"]() == 0
        assert protocol.transport.get_write_buffer_limits() == (16_384, 65_536)
        sending = asyncio.create_task(flood_of_answers(protocol))
        while extension["buffered"]() < 65_536:
            await asyncio.sleep(0.01)
        extension["abort"]()
        await asyncio.wait({sending}, timeout=5)
        assert sending.done()
        assert edge.server.server_state.connections == set()


async def flood_of_answers(protocol: Any) -> None:
    try:
        while True:
            await protocol.send({"type": "websocket.send", "text": "a" * 60_000})
            await asyncio.sleep(0)
    except OSError:
        return


async def test_whoever_is_silent_too_long_is_let_go() -> None:
    async with serving(ws_ping_interval=0.2, ws_ping_timeout=0.3) as edge, connected(edge.port) as client:
        await client.upgrade()
        began = time.monotonic()
        assert await client.close_code() == 4408
        assert 0.4 < time.monotonic() - began < 3


async def test_whoever_talks_is_there_also_without_pongs() -> None:
    async with serving(ws_ping_interval=0.2, ws_ping_timeout=0.3) as edge, connected(edge.port) as client:
        await client.upgrade()
        for _ in range(15):
            await client.send(frame(TEXT, b"here"))
            await asyncio.sleep(0.1)
        frames = [await client.frame() for _ in range(15)]
        assert CLOSE not in {opcode for opcode, _ in frames}
        assert edge.app.ended == 0


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
async def test_frames_made_once_go_out_between_the_others_and_never_after_a_goodbye(size: int) -> None:
    async with serving() as edge, connected(edge.port) as client:
        await client.upgrade()
        write = edge.app.scopes[0]["extensions"]["parley"]["write"]
        protocol: Any = next(iter(edge.server.server_state.connections))
        await protocol.send({"type": "websocket.send", "text": "first"})
        assert write(text_frame(b"a" * size)) is None
        await protocol.send({"type": "websocket.send", "text": "last"})
        assert [await client.frame() for _ in range(3)] == [(TEXT, b"first"), (TEXT, b"a" * size), (TEXT, b"last")]
        await protocol.send({"type": "websocket.close", "code": 1000})
        with pytest.raises(ClientDisconnected):
            write(text_frame(b"more"))
        assert await client.close_code() == 1000


async def test_nothing_is_written_to_a_peer_that_said_goodbye() -> None:
    async with serving() as edge, connected(edge.port) as client:
        await client.upgrade()
        write = edge.app.scopes[0]["extensions"]["parley"]["write"]
        await client.send(frame(CLOSE, (1000).to_bytes(2)))
        assert await client.close_code() == 1000
        with pytest.raises(ClientDisconnected):
            write(text_frame(b"more"))


class Held:
    """Something that a request passes through holds on to."""


async def test_an_application_that_stays_lets_go_of_all_it_came_through() -> None:
    held: list[weakref.ref[Held]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        extension = scope["extensions"]["parley"]
        await receive()
        await send({"type": "websocket.accept"})

        async def stay() -> None:
            while (message := await extension["receive"]())["type"] == "websocket.receive":
                extension["write"](text_frame(message["text"].encode()))

        extension["stay"] = stay

    async with serving() as edge, connected(edge.port) as client:
        original = edge.app._websocket

        async def through(receive: Any, send: Any) -> None:
            middleware = Held()
            held.append(weakref.ref(middleware))
            await application(edge.app.scopes[-1], receive, send)

        edge.app._websocket = through  # type: ignore[method-assign]
        await client.upgrade()
        await client.send(frame(TEXT, b"still there?"))
        assert await client.frame() == (TEXT, b"still there?")
        assert [one() for one in held] == [None]
        assert edge.app.scopes == [{}]
        await client.send(frame(CLOSE, (1000).to_bytes(2)))
        assert await client.close_code() == 1000
        edge.app._websocket = original  # type: ignore[method-assign]
