"""Who comes while a worker says goodbye is let in and sent away like the others: none is cut off, none holds it up."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.attacks.processes import served
from tests.attacks.wires import Talk, answer_to, dialled, following, remote, socket_to, talk, upgrade
from tests.story.serving import Serving, is_alive, wait_until

DRAINING = 1012
GONE_S = 10.0  # a worker that is held up stays for 20
FRESH_S = 0.1  # of the quarter of a second in which whoever was accepted may still ask


@pytest.fixture
async def late(place: Path, database_url: str, redis_url: str, at_leisure: None) -> AsyncIterator[tuple[Serving, Talk]]:
    patient = {f"PARLEY_DATABASE_{name}_TIMEOUT_S": "20" for name in ("LOCK", "STATEMENT", "COMMAND")}
    with served(place, database_url, redis_url, "--workers", "1", **patient) as serving:
        async with remote(serving.port) as service:
            yield serving, await talk(service)


@asynccontextmanager
async def held_up(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Let whoever opens a conversation wait, until the block ends."""
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute("LOCK TABLE participants IN ACCESS EXCLUSIVE MODE")
        yield connection
    await connection.close()


async def end_worker_before(coming: Coroutine[Any, Any, None], serving: Serving, database_url: str) -> None:
    """Tell the worker to end while somebody is being let in; return when both are over."""
    [worker] = serving.workers()
    async with held_up(database_url) as connection:
        waiting = asyncio.create_task(coming)
        async with asyncio.timeout(GONE_S):
            while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.02)
        os.kill(worker, signal.SIGTERM)
        await asyncio.sleep(1.0)  # it has said goodbye to whoever was there
        assert not waiting.done()
    await waiting
    await asyncio.to_thread(wait_until, lambda: not is_alive(worker), GONE_S)


async def test_a_stream_that_is_being_opened(late: tuple[Serving, Talk], database_url: str) -> None:
    serving, chat = late

    async def follow() -> None:
        async with following(chat) as stream:
            await stream.until("ready")
            await stream.until("draining")
            assert await stream.rest() == []

    await end_worker_before(follow(), serving, database_url)
    assert "Exception" not in serving.out + serving.err


async def test_a_socket_that_is_being_opened(late: tuple[Serving, Talk], database_url: str) -> None:
    serving, chat = late

    async def watch() -> None:
        async with socket_to(serving.port, chat.id, headers=chat.account.headers) as socket:
            await socket.until("ready")
            await socket.until("draining")
            assert (await socket.end())[0] == DRAINING

    await end_worker_before(watch(), serving, database_url)
    assert "Exception" not in serving.out + serving.err


async def test_a_socket_that_is_asked_for_when_the_worker_has_been_told(late: tuple[Serving, Talk]) -> None:
    serving, chat = late
    [worker] = serving.workers()
    async with dialled(serving.port) as socket:
        await asyncio.sleep(0.02)
        os.kill(worker, signal.SIGTERM)
        await asyncio.sleep(FRESH_S)
        await socket.send(upgrade(f"/chat/ws/{chat.id}", chat.account.headers))
        assert (await answer_to(socket))[0] == 101
        await socket.until("draining")
        assert (await socket.end())[0] == DRAINING
    await asyncio.to_thread(wait_until, lambda: not is_alive(worker), GONE_S)
