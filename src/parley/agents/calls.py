"""The books: every call of a model becomes a row a moment later, and operators can read them. Decides no budget.

Calls wait in memory for one insert together, and longer while PostgreSQL is away; replies never wait for it.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from parley.agents import repository
from parley.agents.calls_schemas import CallView, to_view
from parley.agents.clients.storable import storable
from parley.agents.definition import DEFAULT_NAME
from parley.agents.interface import Attempt, Turn
from parley.agents.models import ModelCall
from parley.auth.schemas import Identity
from parley.core import audit
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable
from parley.core.ids import new_id
from parley.core.schemas import Page

log = structlog.get_logger(__name__)

EVERY_S = 0.5  # how long a call waits for others
TOGETHER = 100  # or until so many wait; also the rows of one insert
MOST_WAITING = 20_000  # about 20 MB, and minutes without PostgreSQL on a busy worker
RETRY_S = 1.0
CLOSE_S = 3.0  # what a stopping worker gives its last calls


class CallService:
    """The calls of this worker on their way into the table, and the way to read them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._some, self._many = asyncio.Event(), asyncio.Event()
        self.lost = 0
        """Calls that were never stored."""

    @property
    def waiting(self) -> int:
        """Calls that are not stored yet."""
        return len(self._waiting)

    def record(self, turn: Turn, attempt: Attempt) -> None:
        """Note a call of a model; see runner.Record."""
        if len(self._waiting) >= MOST_WAITING:
            if not self.lost % TOGETHER:
                log.error("calls_not_booked", reason="too many wait", lost=self.lost + 1)
            self.lost += 1
            return
        self._waiting.append(_row(turn, attempt, self._clock))
        self._some.set()
        if len(self._waiting) >= TOGETHER:
            self._many.set()

    async def keep(self) -> None:
        """Store what waits, a batch at a time; to be kept running."""
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._many.wait()
            if not await self._store():
                await self._clock.sleep(RETRY_S)

    async def close(self) -> None:
        """Store what still waits: for the end of the worker, when nothing makes calls any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while not await self._store():
                    await self._clock.sleep(RETRY_S)
        if self._waiting:
            self.lost += len(self._waiting)
            log.error("calls_not_booked", reason="the worker stopped", lost=self.lost)

    async def list_calls(
        self,
        *,
        conversation_id: UUID | None,
        message_id: UUID | None,
        limit: int,
        after: UUID | None,
        before: UUID | None,
        reader: Identity,
    ) -> Page[CallView]:
        """Return a stretch of the stored calls, newest first."""
        async with self._database.transaction() as db:
            audit.record(
                db,
                "model_calls_listed",
                actor_id=reader.user_id,
                actor_role=reader.role,
                subject_id=conversation_id or message_id,
            )
            calls = await repository.list_calls(
                db,
                conversation_id=conversation_id,
                message_id=message_id,
                limit=limit + 1,
                after=after,
                before=before,
            )
        kept = calls[-limit:] if before is not None else calls[:limit]
        views = [to_view(call) for call in kept]
        return Page(
            data=views,
            first_id=views[0].id if views else None,
            last_id=views[-1].id if views else None,
            has_more=len(calls) > limit,
        )

    async def _store(self) -> bool:
        """Store all that waits; return False where PostgreSQL is away."""
        while self._waiting:
            rows = list(islice(self._waiting, TOGETHER))
            try:
                async with self._database.transaction() as db:
                    await repository.insert_calls(db, rows)
            except DatabaseUnavailable:
                return False
            except DBAPIError:
                # It would be refused again and again, and hold up all that come behind.
                self.lost += len(rows)
                log.exception("calls_not_booked", reason="refused", lost=self.lost)
            # Only now: whoever is cancelled before it stores them again, which changes nothing.
            for _ in rows:
                self._waiting.popleft()
        self._some.clear()
        self._many.clear()
        return True


def _row(turn: Turn, attempt: Attempt, clock: Clock) -> Mapping[str, Any]:
    return {
        "id": new_id(),
        "created_at": clock.now(),
        "conversation_id": turn.conversation_id,
        "message_id": turn.message_id,
        "user_id": turn.user.id,
        "agent": _short("agent", turn.agent or DEFAULT_NAME),
        "model": _short("model", attempt.model),
        "outcome": _short("outcome", attempt.outcome),
        "prompt_tokens": attempt.prompt_tokens,
        "completion_tokens": attempt.completion_tokens,
        "is_estimated": attempt.is_estimated,
        "is_cached": attempt.is_cached,
        "first_token_s": attempt.first_token_s,
        "total_s": attempt.total_s,
        "cost_usd": None if attempt.cost_usd is None else Decimal(repr(attempt.cost_usd)),
    }


def _short(column: str, text: str) -> str:
    """Return the text as its column takes it: names of models come from outside."""
    length: int = ModelCall.__table__.c[column].type.length  # type: ignore[attr-defined]  # columns of text have one
    return storable(text)[:length]
