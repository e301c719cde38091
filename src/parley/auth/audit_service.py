"""Reading the audit trail, for admins. Entries are made by `core.audit`, in the transactions of what they tell of."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from parley.auth.audit_schemas import AuditView
from parley.auth.schemas import Identity
from parley.core import audit
from parley.core.audit import AuditEntry
from parley.core.database import Database
from parley.core.schemas import Page


@dataclass(frozen=True, slots=True)
class AuditWanted:
    """Which entries; None: any."""

    action: str | None = None
    actor_id: UUID | None = None
    subject_id: UUID | None = None


class AuditService:
    """The audit trail, read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_entries(
        self, reader: Identity, wanted: AuditWanted, limit: int, after: UUID | None = None, before: UUID | None = None
    ) -> Page[AuditView]:
        """Return a stretch of the trail, newest first; that it was read becomes an entry, too."""
        async with self._database.transaction() as db:
            rows = await _list_entries(db, wanted, limit + 1, after, before)
            audit.record(
                db,
                "audit_read",
                actor_id=reader.user_id,
                actor_role=reader.role,
                subject_id=wanted.subject_id or wanted.actor_id,
            )
        kept = rows[-limit:] if before is not None else rows[:limit]
        views = [AuditView.of(entry) for entry in kept]
        return Page(
            data=views,
            first_id=views[0].id if views else None,
            last_id=views[-1].id if views else None,
            has_more=len(rows) > limit,
        )


async def _list_entries(
    db: AsyncSession, wanted: AuditWanted, limit: int, after: UUID | None, before: UUID | None
) -> Sequence[AuditEntry]:
    query = select(AuditEntry).limit(limit)
    for column, value in (
        (AuditEntry.action, wanted.action),
        (AuditEntry.actor_id, wanted.actor_id),
        (AuditEntry.subject_id, wanted.subject_id),
    ):
        if value is not None:
            query = query.where(column == value)
    if before is not None:
        return (await db.scalars(query.where(AuditEntry.id > before).order_by(AuditEntry.id))).all()[::-1]
    if after is not None:
        query = query.where(AuditEntry.id < after)
    return (await db.scalars(query.order_by(AuditEntry.id.desc()))).all()
