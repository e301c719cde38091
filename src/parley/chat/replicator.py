"""Sends every live tape of this worker to Redis, from where Redis last said it ends; one round at a time for all.

What is written while a round is under way gathers, and goes as one entry with the next. No writer ever waits for it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

import structlog

from parley.chat.feed import Fate, Feed
from parley.chat.metrics import ChatMetrics
from parley.chat.tape import Tape
from parley.core.clock import Clock
from parley.core.fanout.entries import End, Write

log = structlog.get_logger(__name__)

FINISH_S = 120.0
RETRY_BASE_S, RETRY_CAP_S = 0.1, 1.0
# A round that carried more might never end within its deadline, after an absence of Redis.
ROUND_BYTES = 1_048_576


class Log(Protocol):
    """Where tapes are sent; answers for each write where its log ends, None where that is not known."""

    async def append(self, writes: Sequence[Write]) -> Sequence[End | None]: ...


class Replicator:
    """The tapes of this worker that Redis is to hold."""

    def __init__(self, tape_log: Log, boot_id: UUID, clock: Clock, metrics: ChatMetrics) -> None:
        self._log = tape_log
        self._boot_id = boot_id
        self._clock = clock
        self._metrics = metrics
        self._feeds: dict[Tape, tuple[Feed, Callable[[], None]]] = {}
        self._news = asyncio.Event()
        self._failed_rounds = 0
        self.given_up = 0

    def __len__(self) -> int:
        return len(self._feeds)

    def add(self, tape: Tape, *, conversation_id: UUID, fenced: Callable[[], None]) -> None:
        """Send this tape from now on; `fenced` is called once if a later attempt has taken its place."""
        self._feeds[tape] = (Feed(tape, conversation_id), fenced)
        self._news.set()

    def touch(self) -> None:
        """Something was written."""
        self._news.set()

    def finish(self, tape: Tape) -> None:
        """Nothing more will be written: keep the tape until its end is confirmed, but at most two minutes."""
        if tape not in self._feeds:
            return
        feed, _ = self._feeds[tape]
        feed.gives_up_at = self._clock.monotonic() + FINISH_S
        if feed.has_news:
            self._news.set()
        else:
            del self._feeds[tape]

    def drop(self, tape: Tape) -> None:
        """Send no more of this tape: its own writer has begun another attempt."""
        self._feeds.pop(tape, None)

    async def run(self) -> None:
        """Send, for ever."""
        while True:
            await self._wait()
            self._news.clear()
            await self._round()

    async def _wait(self) -> None:
        """Wait for news, for the next tape to be due without news, or out the pause after an error."""
        if self._failed_rounds:
            await self._clock.sleep(min(RETRY_BASE_S * 2.0 ** min(self._failed_rounds - 1, 10), RETRY_CAP_S))
            return
        due_at = min((feed.due_at() for feed, _ in self._feeds.values()), default=None)
        timeout_s = None if due_at is None else max(0.0, due_at - self._clock.monotonic())
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return

    async def _round(self) -> None:
        now = self._clock.monotonic()
        self._give_up(now)
        sent = self._gather(now)
        writes = [write for _, of_tape in sent for write in of_tape]
        if not writes:
            if not self._feeds:
                self._failed_rounds = 0
            return
        answers = await self._log.append(writes)
        self._metrics.rounds.add(self._clock.monotonic() - now)
        failed = sum(answer is None for answer in answers)
        if failed:
            self._metrics.append_errors.inc(failed)
        self._failed_rounds = self._failed_rounds + 1 if failed else 0
        first = 0
        for tape, of_tape in sent:
            self._learn(tape, answers[first : first + len(of_tape)])
            first += len(of_tape)

    def _gather(self, now: float) -> list[tuple[Tape, list[Write]]]:
        sent, left = [], ROUND_BYTES
        for tape, (feed, _) in self._feeds.items():
            if writes := feed.writes(self._boot_id, now, left):
                sent.append((tape, writes))
                left -= sum(len(write.entry) for write in writes)
            if left <= 0:
                break
        if left <= 0:  # the next round comes at once, and begins with those that had no room
            self._news.set()
            for tape, _ in sent:
                self._feeds[tape] = self._feeds.pop(tape)
        return sent

    def _learn(self, tape: Tape, answers: Sequence[End | None]) -> None:
        if tape not in self._feeds:
            return  # dropped while the round was under way
        feed, fenced = self._feeds[tape]
        fate = feed.learn(answers)
        if fate is not Fate.GOES_ON:
            del self._feeds[tape]
        elif feed.has_news:
            self._news.set()  # written meanwhile, or lost by Redis
        if fate is Fate.FENCED:
            fenced()

    def _give_up(self, now: float) -> None:
        for tape, (feed, _) in list(self._feeds.items()):
            if feed.gives_up_at is not None and now >= feed.gives_up_at:
                del self._feeds[tape]
                self.given_up += 1
                log.warning("tape_not_confirmed", message_id=str(tape.message_id), attempt=tape.attempt)
