"""What has ended leaves nothing to the collector of cycles: in a worker it comes so rarely that memory would grow."""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from tests.attacks.wires import Talk, chatting, following, port_of, socket_to, talk
from tests.conftest import Start

COUNT = 10
SERVING = ("parley", "uvicorn", "websockets", "httptools", "starlette", "fastapi")


async def sockets(chat: Talk) -> None:
    for _ in range(COUNT):
        async with socket_to(port_of(chat.service), chat.id, headers=chat.account.headers) as socket:
            await socket.until("reset")


async def streams(chat: Talk) -> None:
    for _ in range(COUNT):
        async with following(chat) as stream:
            await stream.until("reset")


async def answers(chat: Talk) -> None:
    for number in range(COUNT):
        body = {"message": f"Hello {number}?", "conversation_id": chat.id}
        assert (await chat.service.http.post("/chat/send", json=body, headers=chat.account.headers)).is_success


@pytest.mark.usefixtures("at_leisure")  # to collect takes a while: the tests of a whole run are in memory
@pytest.mark.parametrize("live", [sockets, streams, answers])
async def test_nothing_that_serves_is_left_in_circles(
    start_on_socket: Start, live: Callable[[Talk], Awaitable[None]]
) -> None:
    async with chatting(start_on_socket) as service:
        chat = await talk(service)
        await live(chat)  # what is made once
        await asyncio.sleep(0.5)
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await live(chat)
            await asyncio.sleep(0.5)
            gc.collect()
            left = [f"{type(one).__module__}.{type(one).__name__}" for one in gc.garbage]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
    found = Counter(name for name in left if name.partition(".")[0] in SERVING)
    assert {name: count for name, count in found.items() if count >= COUNT} == {}
