"""The audit trail: who did or read what, and by which right. Written in the transaction of what it tells of.

Knows no domain: an action is a name in the past tense, a subject is an id. The database refuses every change of it.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prometheus_client import Counter
from sqlalchemy import Index, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from parley.core.models import Base, Identified, Timestamped

COUNTER = "audit_events"  # in a session's info: what counts entries by action


class AuditEntry(Identified, Timestamped, Base):
    """Who did what to whom; never changed, and outlives the account it speaks of."""

    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "actor_id", "id"), Index(None, "subject_id", "id"), Index(None, "action", "id"))

    action: Mapped[str] = mapped_column(String(64))
    actor_id: Mapped[UUID | None]
    """None for the command line and for strangers."""
    actor_role: Mapped[str | None] = mapped_column(String(16))
    """By which right, where that is more than everybody's."""
    subject_id: Mapped[UUID | None]
    """A user, a site, an agent, a conversation: the action tells which."""
    address: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str | None] = mapped_column(String(64))
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request came from."""

    address: str | None = None
    request_id: str | None = None


# Set by the edge for each request and socket, so that no service between it and an entry has to hand it on.
_caller: ContextVar[Caller] = ContextVar("caller", default=Caller())  # noqa: B039  # frozen


def bind_caller(caller: Caller) -> None:
    """Let entries of this context name the caller, until the next one is bound."""
    _caller.set(caller)


def record(
    db: AsyncSession,
    action: str,
    *,
    actor_id: UUID | None = None,
    actor_role: str | None = None,
    subject_id: UUID | None = None,
    caller: Caller | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry to the caller's transaction; `detail` must be JSON, and holds nothing that anybody wrote."""
    where = caller or _caller.get()
    db.add(
        AuditEntry(
            action=action,
            actor_id=actor_id,
            actor_role=actor_role,
            subject_id=subject_id,
            address=where.address,
            request_id=where.request_id,
            detail=dict(detail or {}),
        )
    )
    counter: Counter | None = db.info.get(COUNTER)
    if counter is not None:
        counter.labels(action).inc()


async def allow_removal(db: AsyncSession) -> None:
    """Let the rest of this transaction delete or change entries: for retention and erasure, and nobody else."""
    await db.execute(text("SELECT set_config('parley.audit', 'removal', true)"))
