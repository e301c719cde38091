"""Who writes what: this worker's beat, its watch over the others, and its claims on what nobody writes."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from random import random
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from parley.chat import owner_queries, repository
from parley.chat.metrics import ChatMetrics
from parley.chat.models import LIVE
from parley.chat.owner_queries import Mine
from parley.chat.replies import Replies
from parley.chat.rows import change_of
from parley.chat.service import Claimed, Committed
from parley.chat.watch import Dead, Watch
from parley.chat.writing import Writing
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable
from parley.core.tasks import Tasks

log = structlog.get_logger(__name__)

BEAT_S = 0.5
CLAIMS_AT_ONCE = 150
CLAIM_DELAY_S = 0.2  # at random, so that workers that see the same death share its replies
CLAIMS_SIDE_BY_SIDE = 4  # of the pool's connections; questions need some as well
MOST_TAKEOVERS = 3
BURIED_AFTER_BEATS = 120
LOST = ("worker_lost", "The answer was interrupted too often.", True)


class Owners:
    """This worker among the others."""

    def __init__(  # what a worker has one of
        self, database: Database, replies: Replies, tasks: Tasks, clock: Clock, *, boot_id: UUID, metrics: ChatMetrics
    ) -> None:
        self._database = database
        self._replies = replies
        self._tasks = tasks
        self._clock = clock
        self._boot_id = boot_id
        self._watch = Watch()
        self._still: dict[UUID, int] = {}
        self._slots = asyncio.Semaphore(CLAIMS_SIDE_BY_SIDE)
        self._claiming: set[UUID] = set()
        self._metrics = metrics

    async def run(self) -> None:
        """Beat and look around, twice a second, for ever."""
        while True:
            began = self._clock.monotonic()
            try:
                await self._look()
            except DatabaseUnavailable:
                self._watch.missed()
            await self._clock.sleep(max(BEAT_S - (self._clock.monotonic() - began), BEAT_S / 5))

    async def _look(self) -> None:
        running = dict(self._replies.running)
        asked_at = self._clock.monotonic()
        async with self._database.transaction() as db:
            mine = await owner_queries.beat(db, self._boot_id)
            others = await owner_queries.list_others(db, self._boot_id)
            dead = self._watch.poll({other.boot_id: other.beat for other in others}, asked_at, self._clock.monotonic())
            room = min(CLAIMS_AT_ONCE, self._replies.room)
            unowned = await owner_queries.list_unowned(db, dead, max(room, 1))
            await self._bury(db, set(dead) - {other.boot_id for other in others if other.owns})
        self._mind(mine, running)
        # What nobody writes goes before new questions.
        self._replies.has_backlog = len(unowned) >= max(room, 1)
        for conversation_id, message_id in unowned[:room]:
            if message_id not in self._claiming:
                self._claiming.add(message_id)
                self._tasks.spawn("claim reply", self._claim(conversation_id, message_id, dead))

    def _mind(self, mine: Sequence[Mine], running: Mapping[UUID, Writing | None]) -> None:
        """Set right what rows and tasks say differently; what has changed since the question is left alone."""
        rows = {row.message_id: row for row in mine}
        known = running.keys() | self._replies.running.keys()  # one that has just ended is in the first alone
        lost = [(row.message_id, row.attempt) for row in mine if row.message_id not in known]
        if lost:
            # A commit that was thought to have failed, or a task that broke.
            self._tasks.spawn("release replies", self._release(lost))
        for row in mine:
            if row.is_stopping:
                self._replies.end_early(row.message_id, "stopped")
        for message_id, writing in running.items():
            # One that was being written before the question, so its claim was committed, and is no longer ours.
            is_same = writing is not None and self._replies.running.get(message_id) is writing
            if is_same and message_id not in rows:
                self._replies.end_early(message_id, "fenced")

    async def _claim(self, conversation_id: UUID, message_id: UUID, dead: Dead) -> None:
        try:
            await self._clock.sleep(random() * CLAIM_DELAY_S)  # noqa: S311  # spreads load, guards nothing
            async with self._slots:
                committed = await self._store_claim(conversation_id, message_id, dead)
            if committed is not None:
                self._replies.follow_up(committed)
        except DatabaseUnavailable:
            return  # the next beat sees it again
        finally:
            self._claiming.discard(message_id)

    async def _store_claim(self, conversation_id: UUID, message_id: UUID, dead: Dead) -> Committed | None:
        if not self._replies.room or message_id in self._replies.running:
            return None
        committed = Committed(conversation_id)
        try:
            async with self._database.transaction() as db:
                restart = await self._claim_row(db, committed, message_id, dead)
        except BaseException:
            # Where it was committed all the same, the next beat lets it go.
            for claimed in committed.claimed:
                self._replies.forget(claimed.message_id)
            raise
        self._note_claim(restart)
        return committed if committed.changes or committed.claimed else None

    async def _claim_row(self, db: AsyncSession, committed: Committed, message_id: UUID, dead: Dead) -> str | None:
        """Note what becomes of a reply; return how it goes on, if that shows."""
        conversation = await repository.lock(db, committed.conversation_id)
        reply = await repository.find_message(db, message_id)
        if conversation is None or reply is None or reply.status not in LIVE:
            return None
        is_orphan = reply.owner is not None
        if reply.owner is not None and not await _is_gone(db, reply.owner, dead):
            return None
        if reply.status == "queued" and await repository.next_queued(db, conversation.id) is not reply:
            return None
        if is_orphan:
            reply.takeovers += 1
            log.warning("reply_taken_over", message_id=str(message_id), attempt=reply.attempt + 1)
        is_stopping = reply.status == "stopping"  # its end takes no model, so it is tried for longer
        if reply.takeovers > MOST_TAKEOVERS * (2 if is_stopping else 1):
            reply.attempt += 1  # an attempt without a tape: what viewers have of the last one is not its text
            if is_stopping:
                repository.end(conversation, reply, "stopped")
            else:
                repository.end(conversation, reply, "failed", finish_reason="error", error=LOST)
            await db.flush()
            committed.changes.append(change_of(reply))
            return None
        is_visible = repository.claim(conversation, reply, self._boot_id)
        await db.flush()
        if is_visible:
            committed.changes.append(change_of(reply))
        committed.claimed.append(
            Claimed(conversation.id, message_id, reply.attempt, is_stopping=reply.status == "stopping")
        )
        self._replies.expect(message_id)
        return None if reply.attempt == 1 else "takeover" if is_orphan else "handover"

    def _note_claim(self, restart: str | None) -> None:
        if restart is not None:
            self._metrics.restarts.labels(restart).inc()
        if restart == "takeover":
            self._metrics.takeovers.inc()

    async def _release(self, attempts: Sequence[tuple[UUID, int]]) -> None:
        log.warning("replies_released", count=len(attempts))
        broken = [one for one in attempts if one[0] in self._replies.broken]
        try:
            async with self._database.transaction() as db:
                await repository.release(db, self._boot_id, broken, are_broken=True)
                await repository.release(db, self._boot_id, attempts)
        except DatabaseUnavailable:
            return  # the next beat sees them again
        self._replies.broken.difference_update(message_id for message_id, _ in broken)

    async def _bury(self, db: AsyncSession, dead: Collection[UUID]) -> None:
        self._still = {boot_id: self._still.get(boot_id, 0) + 1 for boot_id in dead}
        long_dead = [boot_id for boot_id, beats in self._still.items() if beats > BURIED_AFTER_BEATS]
        if long_dead:
            await owner_queries.bury(db, long_dead)


async def _is_gone(db: AsyncSession, owner: UUID, dead: Dead) -> bool:
    """Whether it still stands where it stood: this worker may have stood still itself since it saw that."""
    return owner in dead and await owner_queries.find_beat(db, owner) == dead[owner]
