"""How replies end: the end and what follows from it are stored in one transaction, counted and logged."""

from uuid import UUID

import structlog

from parley.chat import repository
from parley.chat.metrics import ChatMetrics
from parley.chat.models import ENDED
from parley.chat.rows import change_of
from parley.chat.service import Claimed, Committed, Desk
from parley.chat.statements import end_reply
from parley.chat.writing import Ending, Writing
from parley.core.clock import Clock
from parley.core.database import Database

log = structlog.get_logger(__name__)


class Endings:
    """The ends of the replies of this worker."""

    def __init__(self, database: Database, desk: Desk, boot_id: UUID, clock: Clock, metrics: ChatMetrics) -> None:
        self._database = database
        self._desk = desk
        self._boot_id = boot_id
        self._clock = clock
        self._metrics = metrics

    async def store(self, writing: Writing, ending: Ending, text: str, tape_end: int) -> Committed:
        """Store an end; nothing is committed where the reply is no longer this worker's."""
        committed = await self._store_plainly(writing, ending, text, tape_end)
        return committed or await self._store_in_full(writing, ending, text, tape_end)

    def note(self, writing: Writing, ending: Ending, status: str) -> None:
        """Count an end that was stored, and log it."""
        metrics, now = self._metrics, self._clock.monotonic()
        metrics.turns.labels(status).inc()
        metrics.turn_duration.observe(now - writing.began_at)
        if ending.error is not None:
            metrics.failures.labels(metrics.failure_codes.of(ending.error[0])).inc()
        if status == "stopped" and writing.stopped_at:
            metrics.stop_latency.observe(now - writing.stopped_at)
        if ending.finish_reason == "handoff":
            metrics.handoffs.labels("assistant").inc()
        costs = [call.cost_usd for call in writing.calls]
        log.info(
            "reply_ended",
            status=status,
            finish_reason=ending.finish_reason,
            error=ending.error[0] if ending.error else None,
            agent=writing.agent,
            model=writing.model,
            attempt=writing.tape.attempt,
            takeover=writing.is_takeover,
            calls=len(writing.calls),
            input_tokens=sum(call.prompt_tokens for call in writing.calls),
            output_tokens=sum(call.completion_tokens for call in writing.calls),
            cached_tokens=sum(call.cached_tokens for call in writing.calls),
            cost_usd=None if None in costs else sum(cost or 0.0 for cost in costs),
            first_token_s=writing.first_token_s and round(writing.first_token_s, 3),
            total_s=round(now - writing.began_at, 3),
        )

    async def _store_plainly(self, writing: Writing, ending: Ending, text: str, tape_end: int) -> Committed | None:
        """Store an end that nothing follows from; None where something may."""
        if ending.finish_reason == "handoff":
            return None
        claimed = writing.claimed
        ended = await end_reply(
            self._database,
            claimed.conversation_id,
            claimed.message_id,
            attempt=writing.tape.attempt,
            owner=self._boot_id,
            status=ending.status,
            content=text,
            finish_reason=ending.finish_reason,
            error=ending.error,
            tape_end=tape_end,
            shown_steps=writing.shown_steps,
            sources=writing.sources,
            agent=(writing.agent, writing.agent_version, writing.model),
        )
        return None if ended is None else Committed(claimed.conversation_id, [change_of(ended)])

    async def _store_in_full(self, writing: Writing, ending: Ending, text: str, tape_end: int) -> Committed:
        claimed, committed = writing.claimed, Committed(writing.claimed.conversation_id)
        try:
            async with self._database.transaction() as db:
                conversation = await repository.lock(db, claimed.conversation_id)
                reply = await repository.find_message(db, claimed.message_id)
                if conversation is None or reply is None or reply.attempt != writing.tape.attempt:
                    return committed
                if reply.owner != self._boot_id:
                    return committed
                if reply.status in ENDED:  # a commit whose answer was lost
                    committed.changes.append(change_of(reply))
                    return committed
                reply.agent, reply.agent_version, reply.model = writing.agent, writing.agent_version, writing.model
                repository.end(
                    conversation,
                    reply,
                    "stopped" if reply.status == "stopping" else ending.status,
                    content="" if conversation.deleted_at else text,
                    finish_reason=ending.finish_reason,
                    error=ending.error,
                    tape_end=0 if conversation.deleted_at else tape_end,
                    shown_steps=writing.shown_steps,
                    sources=writing.sources,
                )
                await db.flush()
                committed.changes.append(change_of(reply))
                if ending.finish_reason == "handoff":
                    quieted = await repository.hand_off(db, conversation)
                    committed.changes.extend(quieted.changes)
                promoted = await repository.next_queued(db, claimed.conversation_id) if self._desk.has_room() else None
                if promoted is not None:
                    repository.claim(conversation, promoted, self._boot_id)
                    await db.flush()
                    committed.changes.append(change_of(promoted))
                    committed.claimed.append(Claimed(claimed.conversation_id, promoted.id, promoted.attempt))
                    self._desk.expect(promoted.id)
        except BaseException:
            # By the numbers that were noted: after a rollback a row no longer says its own.
            for expected in committed.claimed:
                self._desk.forget(expected.message_id)
            raise
        return committed
