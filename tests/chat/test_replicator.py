"""The replicator on a real Redis: every tape arrives, whatever Redis forgets, and no writer waits."""

import asyncio
import time
from collections.abc import AsyncIterator
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest_asyncio
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from tests.fixtures.fanout import open_client, open_log, until
from tests.fixtures.faulty_fanout import Faults, FaultyLog
from tests.fixtures.guards import LoopGuard
from tests.fixtures.metrics import chat_metrics, counted

from parley.chat import replicator as module
from parley.chat.replicator import Replicator
from parley.chat.tape import ENTRY_POSITIONS, Tape
from parley.chat.wire import TapeEntry, decode, log_key_of
from parley.core.clock import SystemClock
from parley.core.tasks import Tasks

CONVERSATION = uuid4()


class Bench:
    """A replicator that runs, its log, and what the log holds."""

    def __init__(self, redis: Redis, log: FaultyLog, faults: Faults) -> None:
        self.redis = redis
        self.log = log
        self.faults = faults
        self.registry = CollectorRegistry()
        self.metrics = chat_metrics(self.registry)
        self.replicator = Replicator(log, uuid4(), SystemClock(), self.metrics)
        self.fenced: list[UUID] = []

    def tape(self, attempt: int = 1, message_id: UUID | None = None) -> Tape:
        tape = Tape(message_id or uuid4(), attempt)
        self.replicator.add(tape, conversation_id=CONVERSATION, fenced=lambda: self.fenced.append(tape.message_id))
        return tape

    def write(self, tape: Tape, text: str) -> None:
        tape.write(text)
        self.replicator.touch()

    async def stored(self, tape: Tape) -> Tape:
        copy = Tape(tape.message_id, tape.attempt)
        entries: Any = await self.redis.xrange(log_key_of(CONVERSATION, tape.message_id))
        for _, fields in entries:
            entry = decode(fields[b"e"])
            assert isinstance(entry, TapeEntry)
            if entry.attempt < tape.attempt:
                continue  # until ours takes its place
            assert (entry.attempt, entry.start) == (tape.attempt, copy.end)
            assert copy.merge(entry.start, entry.parts)
        return copy

    async def arrived(self, tape: Tape, within_s: float = 5.0) -> None:
        async with asyncio.timeout(within_s):
            while (await self.stored(tape)).text() != tape.text():
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def bench(redis_url: str, loop_guard: LoopGuard) -> AsyncIterator[Bench]:
    tasks, faults = Tasks(), Faults()
    async with open_client(redis_url) as redis, open_log(redis, loop_guard) as tape_log:
        bench = Bench(redis, FaultyLog(tape_log, faults, Random(1)), faults)
        tasks.keep("replicate", bench.replicator.run)
        yield bench
        await tasks.close(1.0)
    assert not tasks.crashes


async def test_many_tapes_arrive_whole_in_few_round_trips(bench: Bench) -> None:
    tapes = [bench.tape() for _ in range(50)]
    for number in range(40):
        for tape in tapes:
            bench.write(tape, f"word{number} ")
        await asyncio.sleep(0.001)

    for tape in tapes:
        await bench.arrived(tape)
    bench.metrics.tell()
    rounds = counted(bench.registry, "redis_append_duration_seconds_count")
    assert 0 < rounds < 45
    assert counted(bench.registry, "redis_append_errors_total") == 0
    assert 0 < counted(bench.registry, "redis_append_duration_seconds_sum") < rounds


async def test_a_long_tape_goes_in_one_round_as_several_entries(bench: Bench) -> None:
    tape = bench.tape()
    bench.write(tape, "x" * (ENTRY_POSITIONS * 3 + 1))

    await bench.arrived(tape)
    assert [len(call) for call in bench.log.calls] == [4]


async def test_more_than_a_round_carries_is_shared_out(bench: Bench, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "ROUND_BYTES", 2 * ENTRY_POSITIONS)
    tapes = [bench.tape() for _ in range(6)]
    for tape in tapes:
        tape.write("x" * (ENTRY_POSITIONS * 3))
    bench.replicator.touch()

    for tape in tapes:
        await bench.arrived(tape)
    assert max(len(call) for call in bench.log.calls) <= 3
    first, second = bench.log.calls[:2]
    assert second[0].key != first[0].key


async def test_a_silent_tape_is_fed_again_within_a_second_of_a_flush(bench: Bench) -> None:
    tape = bench.tape()
    bench.write(tape, "hello")
    await bench.arrived(tape)
    await bench.redis.flushdb()

    await bench.arrived(tape, within_s=4.0)


async def test_a_silent_tape_costs_one_empty_append_a_second(bench: Bench) -> None:
    tape = bench.tape()
    bench.write(tape, "hello")
    began = time.monotonic()
    await until(lambda: [(call[0].start, call[0].end) for call in bench.log.calls[-2:]] == [(5, 5), (5, 5)])

    assert len(bench.log.calls) <= time.monotonic() - began + 2


async def test_lost_answers_are_made_up_with_a_growing_pause(bench: Bench) -> None:
    tape = bench.tape()
    bench.faults.loses_answers = 1.0
    for _ in range(150):
        bench.write(tape, "word ")
        await asyncio.sleep(0.01)

    # 0, 0.1, 0.3, 0.7, 1.5 s: never once for each word.
    assert 3 <= len(bench.log.calls) <= 6
    assert counted(bench.registry, "redis_append_errors_total") == len(bench.log.calls)
    bench.faults.heal()
    await bench.arrived(tape)
    assert (await bench.stored(tape)).digest() == tape.digest()


async def test_a_later_attempt_fences_once_and_the_tape_is_let_go(bench: Bench) -> None:
    mine = bench.tape(1)
    bench.write(mine, "hello")
    await bench.arrived(mine)
    theirs = bench.tape(2, mine.message_id)
    bench.write(theirs, "other")
    await bench.arrived(theirs)

    bench.write(mine, " you")
    await until(lambda: bool(bench.fenced))
    bench.write(mine, " there")
    await asyncio.sleep(0.1)

    assert bench.fenced == [mine.message_id]
    assert len(bench.replicator) == 1
    assert (await bench.stored(theirs)).text() == "other"


async def test_a_silent_writer_learns_within_a_second_that_it_is_fenced(bench: Bench) -> None:
    mine = bench.tape(1)
    bench.write(mine, "hello")
    await bench.arrived(mine)
    bench.write(bench.tape(2, mine.message_id), "other")

    await until(lambda: bench.fenced == [mine.message_id], within_s=4.0)


async def test_a_finished_tape_stays_until_its_end_is_confirmed(bench: Bench) -> None:
    tape = bench.tape()
    bench.faults.loses_calls = 1.0
    bench.write(tape, "hello")
    await asyncio.sleep(0.05)
    bench.replicator.finish(tape)
    await asyncio.sleep(0.2)
    assert len(bench.replicator) == 1

    bench.faults.heal()
    await until(lambda: len(bench.replicator) == 0, within_s=2.0)
    assert (await bench.stored(tape)).text() == "hello"


async def test_a_finished_tape_that_has_arrived_is_let_go_at_once(bench: Bench) -> None:
    tape, empty = bench.tape(), bench.tape()
    bench.write(tape, "hello")
    await bench.arrived(tape)
    await asyncio.sleep(0.01)

    bench.replicator.finish(tape)
    bench.replicator.finish(empty)

    assert len(bench.replicator) == 0


async def test_a_finished_tape_is_given_up_in_the_end(
    bench: Bench, monkeypatch: Any, logs: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(module, "FINISH_S", 0.3)
    tape = bench.tape()
    bench.faults.loses_calls = 1.0
    bench.write(tape, "hello")
    bench.replicator.finish(tape)

    await until(lambda: len(bench.replicator) == 0, within_s=2.0)
    assert bench.replicator.given_up == 1
    assert "tape_not_confirmed" in [event["event"] for event in logs]


async def test_after_an_absence_of_redis_a_new_tape_waits_for_no_pause(bench: Bench) -> None:
    bench.faults.loses_calls = 1.0
    lost = bench.tape()
    bench.write(lost, "hello")
    await asyncio.sleep(1.0)
    bench.replicator.drop(lost)
    bench.faults.heal()
    await asyncio.sleep(0.7)  # the pause under way ends after half a second; the next would take 0.8

    tape = bench.tape()
    bench.write(tape, "hello")
    await bench.arrived(tape, within_s=0.3)
