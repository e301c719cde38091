"""The logs: one step stores and publishes, only where it continues; every answer says where the log ends."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from tests.fixtures.fanout import CHANNEL, kill_clients, open_client, open_log, run_broker, until, write_of
from tests.fixtures.guards import LoopGuard

from parley.core.fanout.log import READ_ENTRIES, End, Entry, TapeLog

KEY = write_of(1, 0, 0).key


@pytest_asyncio.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_client(redis_url) as client:
        yield client


@pytest_asyncio.fixture
async def tape_log(redis: Redis, loop_guard: LoopGuard) -> AsyncIterator[TapeLog]:
    async with open_log(redis, loop_guard) as opened:
        yield opened


async def stored(tape_log: TapeLog) -> list[Entry]:
    (entries,) = await tape_log.read([(KEY, 0, 0)])
    assert entries is not None
    return list(entries)


async def test_what_continues_the_log_is_stored_and_anything_else_is_told_its_end(tape_log: TapeLog) -> None:
    writes = [
        write_of(1, 0, 5, b"hello"),
        write_of(1, 0, 5, b"again"),
        write_of(1, 7, 9, b"gap"),
        write_of(1, 3, 9, b"overlap"),
        write_of(1, 5, 6, b"!"),
    ]

    assert await tape_log.append(writes) == [(1, 5), (1, 5), (1, 5), (1, 5), (1, 6)]
    assert await stored(tape_log) == [Entry(1, 5, b"hello"), Entry(1, 6, b"!")]


async def test_an_empty_log_takes_only_a_beginning(tape_log: TapeLog) -> None:
    assert await tape_log.append([write_of(1, 3, 5, b"lo"), write_of(1, 3, 3)]) == [End(0, 0), End(0, 0)]
    assert await stored(tape_log) == []


async def test_a_later_attempt_takes_the_place_of_an_earlier_one_and_fences_it(tape_log: TapeLog) -> None:
    await tape_log.append([write_of(1, 0, 5, b"hello"), write_of(1, 5, 9, b" you")])

    assert await tape_log.append([write_of(2, 0, 0), write_of(2, 5, 7, b"no")]) == [(1, 9), (1, 9)]
    assert await tape_log.append([write_of(2, 0, 2, b"ho")]) == [(2, 2)]
    assert (
        await tape_log.append([write_of(1, 9, 10, b"late"), write_of(1, 0, 3, b"new"), write_of(1, 9, 9)])
        == [(2, 2)] * 3
    )
    assert await stored(tape_log) == [Entry(2, 2, b"ho")]


async def test_an_empty_append_stores_and_publishes_nothing_and_keeps_the_log(redis: Redis, tape_log: TapeLog) -> None:
    heard: list[bytes] = []
    async with run_broker(redis) as broker:
        assert await broker.subscribe(CHANNEL, heard.append)
        await tape_log.append([write_of(1, 0, 5, b"hello")])
        await redis.pexpire(KEY, 5_000)

        assert await tape_log.append([write_of(1, 5, 5)]) == [(1, 5)]
        assert await redis.pttl(KEY) > 100_000
        await tape_log.append([write_of(1, 5, 6, b"!")])
        await until(lambda: heard[-1:] == [b"!"])

    assert heard == [b"hello", b"!"]
    assert await redis.xlen(KEY) == 2


async def test_a_log_is_kept_for_its_time_from_the_first_entry_on(redis: Redis, tape_log: TapeLog) -> None:
    await tape_log.append([write_of(1, 0, 5, b"hello")])

    assert 100_000 < await redis.pttl(KEY) <= 120_000


async def test_refused_writes_are_not_published(redis: Redis, tape_log: TapeLog) -> None:
    heard: list[bytes] = []
    async with run_broker(redis) as broker:
        assert await broker.subscribe(CHANNEL, heard.append)
        await tape_log.append([write_of(1, 0, 1, b"a"), write_of(1, 0, 1, b"no"), write_of(1, 1, 2, b"b")])
        await until(lambda: len(heard) >= 2)

    assert heard == [b"a", b"b"]


async def test_reading_begins_behind_a_position_and_answers_for_many_logs_in_order(tape_log: TapeLog) -> None:
    for reply in ("1", "2"):
        await tape_log.append([write_of(3, n, n + 2, b"%d" % n, reply=reply) for n in range(0, 10, 2)])
    other = write_of(1, 0, 0, reply="2").key

    answers = await tape_log.read(
        [(KEY, 3, 6), (other, 3, 7), (f"{CHANNEL}:tape:none", 0, 0), (KEY, 2, 99), (KEY, 4, 0)]
    )

    ends = [[entry.end for entry in entries or ()] for entries in answers]
    assert ends == [[8, 10], [8, 10], [], [2, 4, 6, 8, 10], []]


async def test_a_long_log_is_read_in_parts(tape_log: TapeLog) -> None:
    total = READ_ENTRIES + 20
    await tape_log.append([write_of(1, n, n + 1, b"x") for n in range(total)])

    first = await stored(tape_log)
    (rest,) = await tape_log.read([(KEY, *first[-1][:2])])

    assert [entry.end for entry in (*first, *(rest or ()))] == list(range(1, total + 1))


async def test_a_forgotten_script_is_loaded_again_within_the_same_call(redis: Redis, tape_log: TapeLog) -> None:
    await tape_log.append([write_of(1, 0, 1, b"a")])
    await redis.script_flush()

    assert await tape_log.append([write_of(1, 1, 2, b"b"), write_of(1, 2, 3, b"c")]) == [(1, 2), (1, 3)]


async def test_a_flushed_log_is_found_empty(redis: Redis, tape_log: TapeLog) -> None:
    await tape_log.append([write_of(1, 0, 1, b"a")])
    await redis.flushdb()

    assert await tape_log.append([write_of(1, 1, 2, b"b"), write_of(1, 1, 1)]) == [(0, 0), (0, 0)]
    assert await tape_log.append([write_of(1, 0, 2, b"ab")]) == [(1, 2)]


async def test_an_error_of_one_write_concerns_no_other(
    redis: Redis, tape_log: TapeLog, logs: list[dict[str, Any]]
) -> None:
    await redis.set(write_of(1, 0, 0, reply="2").key, "not a stream")

    verdicts = await tape_log.append([write_of(1, 0, 1, b"a"), write_of(1, 0, 1, b"a", reply="2"), write_of(1, 1, 1)])

    assert verdicts == [(1, 1), None, (1, 1)]
    assert await tape_log.append([write_of(1, 1, 1)]) == [(1, 1)]
    assert [event["event"] for event in logs if event["event"].startswith("tapes")] == [
        "tapes_not_logged",
        "tapes_logged_again",
    ]


async def test_a_closed_connection_is_replaced(redis: Redis, tape_log: TapeLog) -> None:
    await tape_log.append([write_of(1, 0, 1, b"a")])
    await kill_clients(redis, "normal")
    await asyncio.sleep(0.05)

    assert await tape_log.append([write_of(1, 1, 2, b"b")]) == [(1, 2)]


class Relay:
    """A way to Redis that loses answers, or is silent, on command."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.loses_answers = False
        self._ends: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self.path)
        self._ends += [writer, up_writer]

        async def back() -> None:
            while data := await up_reader.read(65_536):
                if not self.loses_answers:
                    writer.write(data)

        answers = asyncio.create_task(back())
        while data := await reader.read(65_536):
            up_writer.write(data)
        answers.cancel()
        with suppress(asyncio.CancelledError):
            await answers

    def close(self) -> None:
        for end in self._ends:
            end.close()


@pytest.fixture
def relay(redis_url: str) -> Iterator[Relay]:
    relay = Relay(urlsplit(redis_url).path)
    yield relay
    relay.close()


async def test_a_write_whose_answer_was_lost_is_told_that_it_happened(
    redis_url: str, relay: Relay, loop_guard: LoopGuard
) -> None:
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    number = parse_qs(urlsplit(redis_url).query)["db"][0]
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/{number}"
    async with server, open_client(url) as client, open_log(client, loop_guard) as tape_log:
        await tape_log.append([write_of(1, 0, 1, b"a")])
        relay.loses_answers = True
        began = asyncio.get_running_loop().time()
        assert await tape_log.append([write_of(1, 1, 2, b"b"), write_of(1, 2, 3, b"c")]) == [None, None]
        assert asyncio.get_running_loop().time() - began < 1.0
        relay.loses_answers = False

        assert await tape_log.append([write_of(1, 1, 2, b"b"), write_of(1, 2, 3, b"c")]) == [(1, 3), (1, 3)]
        assert [entry.data for entry in await stored(tape_log)] == [b"a", b"b", b"c"]
    await asyncio.sleep(0.05)


async def test_a_redis_that_is_away_answers_nothing_and_raises_nothing(loop_guard: LoopGuard) -> None:
    async with open_client("redis://127.0.0.1:1") as client, open_log(client, loop_guard) as tape_log:
        assert await tape_log.append([write_of(1, 0, 1, b"a")] * 3) == [None] * 3
        assert await tape_log.read([(KEY, 0, 0)]) == [None]
        assert await tape_log.append([]) == []
        assert await tape_log.read([]) == []


async def test_concurrent_calls_get_their_own_answers(tape_log: TapeLog) -> None:
    async def write(reply: int) -> bool:
        for n in range(20):
            if await tape_log.append([write_of(1, n, n + 1, b"x", reply=str(reply))]) != [(1, n + 1)]:
                return False
        return True

    assert all(await asyncio.gather(*(write(reply) for reply in range(10))))


async def test_a_cancelled_call_leaves_no_answer_behind(tape_log: TapeLog) -> None:
    await tape_log.append([write_of(1, 0, 1, b"a")])
    for _ in range(20):
        task = asyncio.create_task(tape_log.append([write_of(9, 9, 9, reply="none")]))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert await tape_log.append([write_of(1, 1, 1)]) == [(1, 1)]
