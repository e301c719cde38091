"""The same promises on the fan-out as it is, and on one that loses, doubles, delays and reorders: readers converge."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from tests.fixtures.fanout import kill_clients, open_client, open_log, run_broker, until
from tests.fixtures.faulty_fanout import Channels, Faults, FaultyBroker, FaultyLog, Log
from tests.fixtures.guards import LoopGuard
from tests.fixtures.metrics import chat_metrics

from parley.chat.replicator import Replicator
from parley.chat.tape import Tape
from parley.chat.wire import TapeEntry, channel_of, decode, log_key_of
from parley.core.clock import SystemClock
from parley.core.fanout.broker import Broker
from parley.core.fanout.log import End, Write
from parley.core.tasks import Tasks

CONVERSATION = uuid4()
SWEEP_S = 0.1


@dataclass
class Fanout:
    """What stands behind the seam, and a way to disturb it."""

    redis: Redis
    log: Log
    broker: Channels
    faults: Faults
    tasks: Tasks


@pytest_asyncio.fixture(params=["real", "faulty"])
async def fanout(request: pytest.FixtureRequest, redis_url: str, loop_guard: LoopGuard) -> AsyncIterator[Fanout]:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_client(redis_url))
        log: Log = await stack.enter_async_context(open_log(redis, loop_guard))
        broker: Broker | FaultyBroker = await stack.enter_async_context(run_broker(redis))
        faults, random, tasks = Faults(), Random(7), Tasks()
        if request.param == "faulty":
            faults = Faults(drops=0.2, doubles=0.2, delays=0.3, loses_calls=0.1, loses_answers=0.1)
            log, broker = FaultyLog(log, faults, random), FaultyBroker(broker, faults, random)
        stack.push_async_callback(tasks.close, 1.0)
        yield Fanout(redis, log, broker, faults, tasks)
        assert not tasks.crashes


class Reader:
    """A copy of a tape on another worker: what continues it is taken, what it has is dropped, a gap is read back."""

    def __init__(self, fanout: Fanout, message_id: UUID, truth: Callable[[int], Tape]) -> None:
        self.tape = Tape(message_id, 0)
        self._fanout = fanout
        self._truth = truth
        self._gap = asyncio.Event()
        self.reads = 0

    async def watch(self) -> None:
        """Subscribe, then read; then again whenever something is missing, and from time to time."""
        self._fanout.broker.on_gap(self._gap.set)
        await self._fanout.broker.subscribe(channel_of(CONVERSATION), self._hear)
        while True:
            await self._read()
            try:
                async with asyncio.timeout(SWEEP_S):
                    await self._gap.wait()
            except TimeoutError:
                continue
            finally:
                self._gap.clear()

    async def _read(self) -> None:
        key = log_key_of(CONVERSATION, self.tape.message_id)
        (entries,) = await self._fanout.log.read([(key, self.tape.attempt, self.tape.end)])
        self.reads += 1
        for entry in entries or ():
            self._hear(entry.data)

    def _hear(self, data: bytes) -> None:
        entry = decode(data)
        assert isinstance(entry, TapeEntry)
        if entry.message_id != self.tape.message_id or entry.attempt < self.tape.attempt:
            return
        if entry.attempt > self.tape.attempt:
            self.tape = Tape(entry.message_id, entry.attempt)
        if not self.tape.merge(entry.start, entry.parts):
            self._gap.set()
        assert self._truth(entry.attempt).text().startswith(self.tape.text()), "torn"


class Writer:
    """A worker that writes attempts at one reply."""

    def __init__(self, fanout: Fanout) -> None:
        self.replicator = Replicator(fanout.log, uuid4(), SystemClock(), chat_metrics())
        self.fenced: list[int] = []
        fanout.tasks.keep("replicate", self.replicator.run)

    def begin(self, message_id: UUID, attempt: int) -> Tape:
        tape = Tape(message_id, attempt)
        self.replicator.add(tape, conversation_id=CONVERSATION, fenced=lambda: self.fenced.append(attempt))
        return tape

    async def write(self, tape: Tape, words: int) -> None:
        for number in range(words):
            tape.write(f"w{tape.attempt}.{number} 🙂 ")
            if number % 10 == 0:
                tape.write(b'{"type":"tool_call"}')
            self.replicator.touch()
            await asyncio.sleep(0.002)


async def disturb(fanout: Fanout, *, flushes: bool) -> None:
    """Do to Redis what happens to it, in the midst."""
    await asyncio.sleep(0.15)
    await kill_clients(fanout.redis, "pubsub")
    await asyncio.sleep(0.15)
    await fanout.redis.script_flush()
    await kill_clients(fanout.redis, "normal")
    if flushes:
        await fanout.redis.flushdb()


async def test_readers_of_a_disturbed_tape_end_with_the_writers_text(fanout: Fanout) -> None:
    message_id = uuid4()
    writer = Writer(fanout)
    tape = writer.begin(message_id, 1)
    early = Reader(fanout, message_id, lambda _: tape)
    fanout.tasks.spawn("early", early.watch())

    await asyncio.gather(writer.write(tape, 200), disturb(fanout, flushes=True))
    fanout.faults.heal()
    writer.replicator.finish(tape)

    await until(lambda: early.tape.digest() == tape.digest() and early.tape.end == tape.end)
    await until(lambda: len(writer.replicator) == 0)
    assert not writer.fenced


async def test_a_reader_that_comes_late_reads_what_it_missed_and_goes_on_live(fanout: Fanout) -> None:
    message_id = uuid4()
    writer = Writer(fanout)
    tape = writer.begin(message_id, 1)
    await writer.write(tape, 60)
    late = Reader(fanout, message_id, lambda _: tape)
    fanout.tasks.spawn("late", late.watch())

    await writer.write(tape, 60)
    fanout.faults.heal()

    await until(lambda: late.tape.digest() == tape.digest())


async def test_a_takeover_fences_the_writer_and_readers_begin_anew(fanout: Fanout) -> None:
    message_id = uuid4()
    zombie, heir = Writer(fanout), Writer(fanout)
    first = zombie.begin(message_id, 1)
    tapes = {1: first}
    reader = Reader(fanout, message_id, tapes.__getitem__)
    fanout.tasks.spawn("reader", reader.watch())
    await zombie.write(first, 50)

    tapes[2] = second = heir.begin(message_id, 2)
    await asyncio.gather(zombie.write(first, 50), heir.write(second, 50))
    fanout.faults.heal()

    await until(lambda: (reader.tape.attempt, reader.tape.digest()) == (2, second.digest()))
    await until(lambda: zombie.fenced == [1])
    assert not heir.fenced


async def test_an_answer_is_the_truth_or_none(fanout: Fanout) -> None:
    """Whatever was lost before, an answer names the end the log had after that write."""
    key, channel, end = log_key_of(CONVERSATION, uuid4()), channel_of(CONVERSATION), 0
    known = 0
    for _ in range(200):
        (answer,) = await fanout.log.append([Write(key, channel, 1, end, end + 2, b"1" + b"0" * 32 + b"e{}")])
        if answer is not None:
            assert answer in {End(1, end + 2), End(1, end), End(0, 0)}
            end, known = answer.n, known + 1

    fanout.faults.heal()
    (answer,) = await fanout.log.append([Write(key, channel, 1, end, end)])
    (entries,) = await fanout.log.read([(key, 0, 0)])
    assert known > 100
    assert answer is not None
    assert entries is not None
    assert [entry.end for entry in entries] == list(range(2, answer.n + 1, 2))
