"""Connections that cost more than they say (RELIABILITY 5: 27; 3: 27): capped, and freed in bounded time."""

import asyncio
import ctypes
import json
import socket as sockets
import struct
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.attacks.claims import assert_refused
from tests.attacks.wires import (
    ENDLESS,
    Talk,
    chatting,
    dialled,
    following,
    knock,
    port_of,
    socket_to,
    talk,
    upgrade,
    watching,
)
from tests.conftest import Start
from tests.fixtures.service import Service

SO_ATTACH_FILTER = 26
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
FREED_S = 6.0


async def until_free(service: Service, taken: int = 0, within_s: float = FREED_S) -> float:
    """Return how long it took until so many places were left."""
    began = time.monotonic()
    async with asyncio.timeout(within_s):
        while service.parts["seats"].taken > taken:
            await asyncio.sleep(0.01)
    return time.monotonic() - began


def stream_request(chat: Talk, *headers: str) -> bytes:
    """Return the request for a stream, to send by hand."""
    lines = [f"GET /chat/conversations/{chat.id}/stream HTTP/1.1", "Host: x", *headers]
    return "\r\n".join([*lines, f"Authorization: {chat.account.headers['Authorization']}", "", ""]).encode()


async def refusal_of(chat: Talk) -> tuple[int, str]:
    status, answer = await knock(chat.service, f"/chat/ws/{chat.id}", **chat.account.headers)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"retry-after" in head.lower()
    return status, json.loads(body)["error"]["code"]


async def test_a_user_has_so_many_places_for_sockets_and_streams_together(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_CHAT_SOCKETS_PER_USER="4") as service, AsyncExitStack() as stack:
        await service.parts["readiness"].wait()
        chat, bystander = await talk(service), await talk(service)
        held = [await stack.enter_async_context(watching(chat)) for _ in range(2)]
        streams = [await stack.enter_async_context(following(chat)) for _ in range(2)]
        for stream in streams:
            await stream.until("reset")

        assert await refusal_of(chat) == (429, "too_many_connections")
        path = f"/chat/conversations/{chat.id}/stream"
        assert_refused(await service.http.get(path, headers=chat.account.headers), 429, code="too_many_connections")
        asked = await service.http.post("/chat/stream", json={"message": "Hello"}, headers=chat.account.headers)
        assert_refused(asked, 429, code="too_many_connections")
        listed = await service.http.get("/chat/conversations", headers=chat.account.headers)
        assert len(listed.json()["data"]) == 1, "what is refused was not asked"
        async with watching(bystander) as other:
            await other.is_served()
        held[0].writer.transport.abort()
        await until_free(service, 3)
        async with watching(chat) as again:
            await again.is_served()


async def test_an_address_and_a_worker_have_so_many_places(start_on_socket: Start) -> None:
    for variables, expected in (
        ({"PARLEY_CHAT_SOCKETS_PER_ADDRESS": "5"}, (429, "too_many_connections")),
        ({"PARLEY_CHAT_SOCKETS": "5"}, (503, "overloaded")),
    ):
        async with start_on_socket(**variables) as service, AsyncExitStack() as stack:
            await service.parts["readiness"].wait()
            talks = [await talk(service) for _ in range(6)]
            for chat in talks[:5]:
                await stack.enter_async_context(watching(chat))
            assert await refusal_of(talks[5]) == expected
            assert (await service.http.get("/health/live")).status_code == 200


async def test_of_fifty_that_come_at_once_no_more_get_in_than_places(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_CHAT_SOCKETS_PER_USER="10") as service, AsyncExitStack() as stack:
        await service.parts["readiness"].wait()
        chat = await talk(service)

        async def come() -> int:
            held = await stack.enter_async_context(dialled(port_of(service)))
            try:
                await held.send(
                    b"GET /chat/ws/%b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b==\r\nAuthorization: %b\r\n\r\n"
                    % (chat.id.encode(), b"A" * 22, chat.account.headers["Authorization"].encode())
                )
                return int((await held.reader.readline()).split(b" ")[1])
            except ConnectionError:
                return 0

        statuses = await asyncio.gather(*(come() for _ in range(50)))
        assert statuses.count(101) == 10
        assert statuses.count(429) == 40
        assert service.parts["seats"].taken == 10
    assert service.parts["seats"].taken == 0


async def test_who_comes_and_goes_leaves_nothing_behind(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_CHAT_LINGER_S="0.1") as service:
        await service.parts["readiness"].wait()
        chat = await talk(service)
        for _ in range(10):
            async with watching(chat), following(chat) as stream:
                await stream.until("reset")
            # Cut before the answer: the place was not taken yet, or is given back.
            async with dialled(port_of(service)) as cut:
                await cut.send(stream_request(chat))
        await until_free(service)
        connections = service.parts["connections"]
        async with asyncio.timeout(FREED_S):
            while connections.watched:
                await asyncio.sleep(0.02)


async def test_of_ten_that_ask_at_once_only_who_has_a_place_is_stored(start_on_socket: Start) -> None:
    """Who is refused asks again; without a client_id that would be another question."""
    async with chatting(start_on_socket, PARLEY_CHAT_SOCKETS_PER_USER="3") as service:
        account = await service.register()

        async def ask() -> int:
            body = {"message": "Hello"}
            async with service.http.stream("POST", "/chat/stream", json=body, headers=account.headers) as answer:
                await answer.aread()
                return answer.status_code

        statuses = await asyncio.gather(*(ask() for _ in range(10)))
        listed = await service.http.get("/chat/conversations", headers=account.headers)
        assert set(statuses) == {200, 429}
        assert len(listed.json()["data"]) == statuses.count(200)
        await until_free(service)


def errors(logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in logs if line["level"] in {"warning", "error", "critical"}]


async def test_a_stream_whose_request_has_a_body_that_does_not_end_is_let_go(
    start_on_socket: Start, logs: list[dict[str, Any]]
) -> None:
    async with start_on_socket(PARLEY_BODY_TIMEOUT_S="0.5") as service:
        await service.parts["readiness"].wait()
        chat = await talk(service)
        async with dialled(port_of(service)) as stream:
            await stream.send(stream_request(chat, "Content-Length: 5"))
            await stream.reader.readuntil(b'"reset"')
            await until_free(service)
        assert errors(logs) == []


@pytest.mark.parametrize("is_upgrade", [False, True])
async def test_a_stream_with_a_request_behind_it_is_let_go(
    start_on_socket: Start, logs: list[dict[str, Any]], is_upgrade: bool
) -> None:
    """The server tells the newest request alone that the connection has gone."""
    async with start_on_socket(PARLEY_CHAT_COMMENT_S="0.3", PARLEY_CHAT_SWEEP_S="0.3") as service:
        await service.parts["readiness"].wait()
        chat = await talk(service)
        async with dialled(port_of(service)) as stream:
            await stream.send(
                stream_request(chat) + (upgrade(f"/chat/ws/{chat.id}", chat.account.headers) if is_upgrade else LIVE)
            )
            await stream.reader.readuntil(b'"reset"')
        await until_free(service)
        assert errors(logs) == []


async def test_many_requests_behind_a_stream_cost_what_each_costs(start_on_socket: Start, at_leisure: None) -> None:
    async with start_on_socket() as service:
        await service.parts["readiness"].wait()
        chat = await talk(service)

        async def cost_of(count: int) -> float:
            async with dialled(port_of(service)) as stream:
                await stream.send(stream_request(chat))
                await stream.reader.readuntil(b'"reset"')
                began = time.thread_time()
                await stream.send(LIVE * count)
                await asyncio.sleep(0.3)
                return time.thread_time() - began

        few, many = [min([await cost_of(count) for _ in range(3)]) for count in (400, 1_600)]
    print(f"{few * 1000:.0f} ms for 400, {many * 1000:.0f} ms for 1,600")
    assert many < few * 4 * 2


async def test_a_head_that_never_ends_is_not_waited_for(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_HEAD_TIMEOUT_S="0.5") as service, AsyncExitStack() as stack:
        began = time.monotonic()
        slow = [await stack.enter_async_context(dialled(port_of(service))) for _ in range(100)]
        for number, held in enumerate(slow):
            if number % 2:
                await held.send(b"GET /chat/ws/x HTTP/1.1\r\nHost: x\r\nX-Slow: ")

        async def drip(held: object) -> None:
            while True:
                await slow[1].send(b"a")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip(slow[1]), name="drip")
        answers = await asyncio.gather(*(held.rest() for held in slow))
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        assert time.monotonic() - began < FREED_S
        assert {answer[:12] for answer in answers} == {b"", b"HTTP/1.1 408"}
        assert (await service.http.get("/health/live")).status_code == 200


async def test_a_socket_that_is_silent_is_closed_and_one_that_answers_pings_stays(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_CHAT_HEARTBEAT_S="0.3") as service:
        await service.parts["readiness"].wait()
        chat = await talk(service)
        async with watching(chat) as silent, watching(chat) as talking:
            began = time.monotonic()
            ending = asyncio.create_task(silent.end(), name="silent")
            while not ending.done():
                await talking.is_served()
                await asyncio.sleep(0.15)
            assert (await ending)[0] == 4408
            assert 0.8 < time.monotonic() - began < FREED_S
            await talking.is_served()
        await until_free(service)


async def test_who_closes_its_half_is_let_go(start_on_socket: Start) -> None:
    async with start_on_socket() as service:
        await service.parts["readiness"].wait()
        chat = await talk(service)
        async with dialled(port_of(service)) as stream, watching(chat) as socket:
            await stream.send(stream_request(chat))
            await stream.reader.readuntil(b'"reset"')
            assert service.parts["seats"].taken == 2
            for half_closed in (stream, socket):
                half_closed.writer.write_eof()
            print(f"freed after {await until_free(service):.2f} s")


def deaf(peer: sockets.socket) -> None:
    """Let nothing in any more, not even acknowledgements: to the other side the cable is cut."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    peer.setsockopt(sockets.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(drop_all)))


@pytest.mark.skipif(not hasattr(sockets, "TCP_USER_TIMEOUT"), reason="needs the kernel's packet filter")
async def test_who_vanishes_without_a_word_is_let_go_and_the_others_stay(start_on_socket: Start) -> None:
    variables = {"PARLEY_TCP_USER_TIMEOUT_MS": "1500", "PARLEY_CHAT_COMMENT_S": "0.3", "PARLEY_CHAT_SWEEP_S": "0.3"}
    async with start_on_socket(**variables, PARLEY_CHAT_HEARTBEAT_S="0.5") as service:
        await service.parts["readiness"].wait()
        chat = await talk(service)
        headers = chat.account.headers
        async with (
            dialled(port_of(service)) as stream,
            socket_to(port_of(service), chat.id, headers=headers) as socket,
            following(chat) as present,
        ):
            await stream.send(stream_request(chat))
            await stream.reader.readuntil(b'"reset"')
            await socket.until("reset")
            await present.until("reset")
            for vanished in (stream, socket):
                deaf(vanished.writer.get_extra_info("socket"))
            took = await until_free(service, 1, within_s=8)
            print(f"freed after {took:.2f} s")
            assert took > 0.5, "they were not gone for another reason"
            told = await service.http.patch(
                f"/chat/conversations/{chat.id}", json={"title": "Still here"}, headers=headers
            )
            assert told.is_success
            assert (await present.until("conversation"))[-1]["title"] == "Still here"


@pytest.mark.skipif(not hasattr(sockets, "TCP_USER_TIMEOUT"), reason="needs the kernel's packet filter")
async def test_an_answer_goes_on_when_all_who_watched_it_have_vanished(start_on_socket: Start) -> None:
    async with chatting(start_on_socket, pace_s=0.05, PARLEY_TCP_USER_TIMEOUT_MS="1500") as service:
        chat = await talk(service)
        async with watching(chat) as socket, following(chat) as stream:
            asked = await chat.ask(ENDLESS)
            await socket.until("token")
            await stream.until("token")
            deaf(socket.writer.get_extra_info("socket"))
            deaf(stream.response.extensions["network_stream"].get_extra_info("socket"))
            await until_free(service, within_s=8)
            [_, reply] = await chat.messages()
            assert reply["status"] == "streaming"
            path = f"/chat/messages/{asked['reply']['id']}/stop"
            ended = (await service.http.post(path, headers=chat.account.headers)).json()["message"]
            assert (ended["status"], bool(ended["content"])) == ("stopped", True)
