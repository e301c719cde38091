"""The line to Redis: what is asked together goes out together, each gets its own answer, and nothing is sent twice."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import hiredis
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from tests.fixtures.fanout import kill_clients, open_client

from parley.core.line import Line, Script, pack
from parley.core.redis import REDIS_AWAY

DEADLINE_S = 2.0


@pytest_asyncio.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_client(redis_url) as client:
        yield client


@pytest_asyncio.fixture
async def line(redis: Redis) -> AsyncIterator[Line]:
    opened = Line(redis)
    yield opened
    await opened.close()


class Writes:
    """A transport that counts."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.count = 0

    def write(self, data: bytes) -> None:
        self.count += 1
        self._transport.write(data)

    def abort(self) -> None:
        self._transport.abort()


async def echo(line: Line, text: str, within_s: float = DEADLINE_S) -> str:
    answer: bytes = await line.ask(pack("ECHO", text), within_s=within_s)
    return answer.decode()


async def test_many_ask_at_once_and_each_gets_its_own_answer(line: Line) -> None:
    texts = [f"text {number}" for number in range(500)]

    assert await asyncio.gather(*(echo(line, text) for text in texts)) == texts


async def test_what_is_asked_in_one_moment_is_one_write(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    await echo(line, "connect")
    talk = line._talk
    assert talk is not None
    writes = Writes(talk._transport)
    monkeypatch.setattr(talk, "_transport", writes)

    await asyncio.gather(*(echo(line, str(number)) for number in range(20)))

    assert writes.count == 1


async def test_several_commands_are_answered_in_their_order_and_an_error_is_an_answer(line: Line) -> None:
    one, refused, three = await line.ask_all(
        [pack("ECHO", "one"), pack("NO-SUCH-COMMAND"), pack("ECHO", "three")], within_s=DEADLINE_S
    )

    assert (one, three) == (b"one", b"three")
    assert isinstance(refused, hiredis.ReplyError)


async def test_whoever_leaves_takes_nobodys_answer_along(line: Line) -> None:
    await echo(line, "connect")
    leaving = asyncio.create_task(line.ask(pack("ECHO", "left"), within_s=DEADLINE_S))
    staying = asyncio.create_task(echo(line, "stayed"))
    await asyncio.sleep(0)
    leaving.cancel()

    assert await staying == "stayed"
    assert await echo(line, "after") == "after"


async def test_a_killed_connection_is_told_to_all_who_wait_and_made_again(redis: Redis, line: Line) -> None:
    await echo(line, "connect")
    blocked = [asyncio.create_task(line.ask(pack("BLPOP", "nothing", 0), within_s=60)) for _ in range(3)]
    await asyncio.sleep(0.05)
    await kill_clients(redis, "normal")

    for task in blocked:
        with pytest.raises(REDIS_AWAY):
            await task
    assert await echo(line, "again") == "again"


async def test_a_server_that_does_not_answer_costs_the_deadline_and_not_more(line: Line) -> None:
    await echo(line, "connect")
    began = asyncio.get_running_loop().time()
    with pytest.raises(REDIS_AWAY):
        await line.ask(pack("BLPOP", "nothing", 0), within_s=0.1)

    assert asyncio.get_running_loop().time() - began < 1.0
    assert await echo(line, "again") == "again"


async def test_no_server_is_an_absence() -> None:
    async with open_client("redis://127.0.0.1:1") as nowhere:
        with pytest.raises(REDIS_AWAY):
            await Line(nowhere).ask(pack("PING"), within_s=DEADLINE_S)


async def test_a_script_is_sent_again_to_a_server_that_lost_it(redis: Redis, line: Line) -> None:
    script = Script(line, b"return {KEYS[1], ARGV[1]}")
    for _ in range(2):
        assert await script.run(["key"], ["argument"], within_s=DEADLINE_S) == [b"key", b"argument"]
        await redis.script_flush()


async def test_an_error_of_a_script_is_raised(line: Line) -> None:
    with pytest.raises(ResponseError):
        await Script(line, b"return redis.error_reply('NOT TODAY')").run([], [], within_s=DEADLINE_S)
