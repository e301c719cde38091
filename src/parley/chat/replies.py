"""Replies as supervised tasks of their worker: one writes from claim to end and outlives its viewers.

Makes every event of a tape. Rows are changed here in two places only, a step and another attempt; ends by `ending`.
"""

import asyncio
from contextvars import Context
from dataclasses import replace
from uuid import UUID

import structlog

from parley.agents.interface import (
    Agents,
    Event,
    Failed,
    Finished,
    Restarted,
    StatusChanged,
    StepDecided,
    StepFinished,
    TextGrew,
)
from parley.chat import protocol, repository
from parley.chat.admission import Admission
from parley.chat.connections import ConnectionManager
from parley.chat.control import Control
from parley.chat.ending import Endings
from parley.chat.metrics import ChatMetrics
from parley.chat.replicator import Replicator
from parley.chat.repository import ToStop
from parley.chat.service import Claimed, Committed
from parley.chat.settings import ChatSettings
from parley.chat.tape import Tape
from parley.chat.turns import read_turn, stored_steps
from parley.chat.writing import INTERNAL, Ending, Why, Writing
from parley.core.backoff import full_jitter
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable
from parley.core.tasks import Tasks
from parley.core.telemetry import Telemetry

log = structlog.get_logger(__name__)

RETRY_BASE_S, RETRY_CAP_S = 0.1, 1.0  # of what PostgreSQL, being away, could not take
MOST_BEGINNINGS = 20  # about 15 s: nothing has been shown, and the question waits in vain
TELL_AGAIN_S = 1.0
REPLY_STORES = 1  # spans beside those of its request, of models and of tools


class _Fenced(Exception):
    """Another attempt has taken this one's place."""


class Replies:
    """The replies of this worker, and what follows from every commit; the service's Desk."""

    def __init__(  # what a worker has one of
        self,
        *,
        database: Database,
        connections: ConnectionManager,
        replicator: Replicator,
        control: Control,
        agents: Agents,
        admission: Admission,
        tasks: Tasks,
        settings: ChatSettings,
        clock: Clock,
        boot_id: UUID,
        metrics: ChatMetrics,
        telemetry: Telemetry,
    ) -> None:
        self._metrics = metrics
        self._telemetry = telemetry
        self._database = database
        self._connections = connections
        self._replicator = replicator
        self._control = control
        self._agents = agents
        self._admission = admission
        self._tasks = tasks
        self._settings = settings
        self._clock = clock
        self._boot_id = boot_id
        self._running: dict[UUID, Writing | None] = {}
        """By message; None is a claim whose commit is under way."""
        self.broken: set[UUID] = set()
        """Those whose tasks broke, until they are given back."""
        self.has_backlog = False
        """Whether there is more to take over than this worker has room for."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._endings = Endings(database, self, boot_id, clock, metrics)

    # The service's desk.

    def admit(self) -> None:
        self._admission.check(len(self._running), has_backlog=self.has_backlog)

    def has_room(self) -> bool:
        return self.room > 0

    @property
    def room(self) -> int:
        """How many replies more this worker may write."""
        return self._admission.room(len(self._running))

    @property
    def running(self) -> dict[UUID, Writing | None]:
        """What this worker knows to be its own."""
        return self._running

    def expect(self, message_id: UUID) -> None:
        self._running.setdefault(message_id, None)
        self._idle.clear()

    def forget(self, message_id: UUID) -> None:
        self._running.pop(message_id, None)
        if not self._running:
            self._idle.set()

    def follow_up(self, committed: Committed) -> None:
        self._connections.tell(committed.conversation_id, committed.changes)
        for claimed in committed.claimed:
            self._start(claimed)
        for stop in committed.stops:
            self.stop(stop)

    def stop(self, stop: ToStop) -> None:
        """End a reply that is being written, wherever that is."""
        if stop.owner == self._boot_id:
            self.end_early(stop.message_id, "stopped")
        elif stop.owner is not None:
            self._tasks.spawn("tell the owner", self._control.tell(stop.owner, stop.message_id))

    def end_early(self, message_id: UUID, why: Why) -> None:
        """Cancel the model of a reply that is written here; the beat says it again, should a cancellation be lost."""
        writing, now = self._running.get(message_id), self._clock.monotonic()
        if writing is None or writing.is_ending:
            return
        if writing.why is not None:
            if now - writing.told_at < TELL_AGAIN_S:
                return
            log.warning("reply_told_again", message_id=str(message_id), why=writing.why)
        writing.why, writing.told_at = writing.why or why, now
        writing.stopped_at = writing.stopped_at or now
        if writing.task is not None:
            writing.task.cancel()

    async def hand_over(self, within_s: float) -> None:
        """Let what runs finish; what has not by then is given back, for another worker to begin anew."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            left = [message_id for message_id, writing in self._running.items() if writing is not None]
            for message_id in left:
                self.end_early(message_id, "released")
            await self._idle.wait()

    # Writing.

    def _start(self, claimed: Claimed) -> None:
        self.expect(claimed.message_id)
        writing = Writing(claimed, Tape(claimed.message_id, claimed.attempt), self._clock.monotonic())
        writing.is_takeover = claimed.attempt > 1
        self._running[claimed.message_id] = writing
        if not claimed.is_stopping:
            self._show(writing)
        self._tasks.spawn("write reply", self._write(writing))

    async def _write(self, writing: Writing) -> None:
        claimed = writing.claimed
        # Here, and not where it is begun: a task that is cancelled before its first step never comes to tidy up.
        writing.task = asyncio.current_task()
        structlog.contextvars.bind_contextvars(
            conversation_id=str(claimed.conversation_id), message_id=str(claimed.message_id)
        )
        stores = self._telemetry.stores("reply", REPLY_STORES)
        try:
            ending = Ending("stopped") if claimed.is_stopping else await self._run(writing)
            writing.is_ending = True
            if ending is not None:
                await self._end(writing, ending)
            elif writing.why == "released":
                await self._release(writing)
        except Exception:
            self.broken.add(claimed.message_id)
            raise
        finally:
            stores.settle()
            self._replicator.finish(writing.tape)
            self._connections.detach(writing.tape)
            if self._running.get(claimed.message_id) is writing:
                self.forget(claimed.message_id)

    async def _run(self, writing: Writing) -> Ending | None:
        """Ask the agent and write what it says; None where this attempt is no longer this worker's to end."""
        failures = 0
        try:
            while True:
                try:
                    return await self._ask(writing)
                except DatabaseUnavailable:
                    if writing.tape.end or failures >= MOST_BEGINNINGS:
                        raise
                    failures = await self._pause(failures)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if writing.why is None or task is None:
                raise
            task.uncancel()
            return Ending("stopped") if writing.why == "stopped" else None
        except _Fenced:
            return None
        except DatabaseUnavailable as error:
            return Ending("failed", error=(error.code, error.message, True))
        except Exception:  # the border of a reply: whatever broke, it ends and says so
            log.exception("reply_broke")
        return Ending("failed", error=INTERNAL)

    async def _ask(self, writing: Writing) -> Ending | None:
        if writing.why is not None:
            raise asyncio.CancelledError  # told so before it began
        claimed = writing.claimed
        turn = claimed.turn or await read_turn(self._database, claimed.message_id, self._settings.history_messages)
        if turn is None:
            return Ending("failed", error=INTERNAL)
        writing.steps, writing.calls = list(turn.steps), turn.calls
        async with self._agents.run(turn) as events:
            async for event in events:
                if writing.why is not None:
                    # The cancellation met this event and was lost: Python 3.11's `wait_for` does that.
                    raise asyncio.CancelledError
                ending = await self._take(writing, event)
                if ending is not None:
                    return ending
        return Ending("failed", error=INTERNAL)

    def _show(self, writing: Writing) -> None:
        """Begin the tape of an attempt: for viewers here, and for Redis."""
        claimed = writing.claimed
        self._connections.attach(claimed.conversation_id, writing.tape)

        def fenced() -> None:
            if self._running.get(claimed.message_id) is writing:  # and not what was claimed anew since
                self.end_early(claimed.message_id, "fenced")

        self._replicator.add(writing.tape, conversation_id=claimed.conversation_id, fenced=fenced)

    async def _take(self, writing: Writing, event: Event) -> Ending | None:
        """Take one event of the agent; return how the reply ends if it does."""
        match event:
            case TextGrew(text):
                return self._grow(writing, text)
            case Finished(reason):
                return Ending("complete", reason)
            case Failed(code, message, is_retryable):
                return Ending("failed", "error", (code, message, is_retryable))
            case StepDecided(step) | StepFinished(step):
                if writing.steps and writing.steps[-1].results is None:
                    writing.steps[-1] = step
                else:
                    writing.steps.append(step)
                await self._store_steps(writing)
            case Restarted():
                await self._begin_again(writing)
            case StatusChanged(state, label):
                body = protocol.status(writing.claimed.message_id, state, label)
                self._connections.hint(writing.claimed.conversation_id, body)
            case _:
                if writing.note(event):
                    self._grown(writing)
        return None

    def _grow(self, writing: Writing, text: str) -> Ending | None:
        tape, room = writing.tape, self._settings.reply_max_bytes - writing.tape.text_bytes
        is_full = len(text) > room or (not text.isascii() and len(text.encode()) > room)
        if is_full:
            text = text.encode()[: max(room, 0)].decode(errors="ignore")
        tape.write(text)
        self._grown(writing)
        now = self._clock.monotonic()
        if writing.grown_at:
            self._metrics.gaps.add(now - writing.grown_at)
        else:
            writing.first_token_s = writing.first_token_s or now - writing.began_at
            if tape.attempt == 1:
                self._metrics.first_token.observe(now - writing.began_at)
        writing.grown_at = now
        return Ending("complete", "length") if is_full else None

    def _grown(self, writing: Writing) -> None:
        self._connections.grown(writing.claimed.conversation_id)
        self._replicator.touch()

    # Rows.

    async def _store_steps(self, writing: Writing) -> None:
        """Store the steps so far; the next event is not asked for before."""
        failures = 0
        while True:
            try:
                async with self._database.transaction() as db:
                    is_mine = await repository.store_steps(
                        db, writing.claimed.message_id, writing.tape.attempt, self._boot_id, stored_steps(writing.steps)
                    )
            except DatabaseUnavailable:
                failures = await self._pause(failures)
                continue
            if not is_mine:
                raise _Fenced
            return

    async def _begin_again(self, writing: Writing) -> None:
        """Another model begins: visibly, as attempt + 1."""
        claimed, old = writing.claimed, writing.tape
        failures = 0
        while True:
            try:
                async with self._database.transaction() as db:
                    await repository.lock(db, claimed.conversation_id)
                    is_mine = await repository.raise_attempt(db, claimed.message_id, old.attempt, self._boot_id)
                break
            except DatabaseUnavailable:
                failures = await self._pause(failures)
        if not is_mine:
            raise _Fenced
        self._metrics.restarts.labels("model").inc()
        self._replicator.drop(old)
        self._connections.detach(old)
        writing.claimed = replace(claimed, attempt=old.attempt + 1)
        writing.tape = Tape(claimed.message_id, old.attempt + 1)
        writing.shown_steps, writing.sources, writing.grown_at = [], [], 0.0
        self._show(writing)

    async def _end(self, writing: Writing, ending: Ending) -> None:
        """Store the end, however long that takes: only then it is told."""
        text, tape_end = writing.tape.text(), writing.tape.end
        if writing.claimed.is_stopping:
            # Of a dead worker, told to stop: what the log still has is its text.
            claimed = writing.claimed
            text, tape_end = await self._connections.missed.read_text(claimed.conversation_id, claimed.message_id), 0
        failures = 0
        while True:
            try:
                committed = await self._endings.store(writing, ending, text, tape_end)
            except DatabaseUnavailable:
                failures = await self._pause(failures)
            except Exception:
                if writing.is_bare:
                    raise
                log.exception("reply_end_broke")
                ending = writing.strip()
            else:
                break
        self._replicator.finish(writing.tape)
        # The next reply may be somebody else's: it is none of this one's request, in logs and traces.
        Context().run(self.follow_up, committed)
        if committed.changes:
            self._endings.note(writing, ending, committed.changes[0].view["status"])

    async def _release(self, writing: Writing) -> None:
        self._replicator.drop(writing.tape)
        try:
            async with self._database.transaction() as db:
                await repository.release(db, self._boot_id, [(writing.claimed.message_id, writing.tape.attempt)])
        except DatabaseUnavailable:
            return  # this worker's beat ends with it, and the others take over

    async def _pause(self, failures: int) -> int:
        spread = 1.0  # a reply waits alone: nothing to spread
        await self._clock.sleep(full_jitter(failures, base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S, random=spread))
        return failures + 1
