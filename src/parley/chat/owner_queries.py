"""Every query on owners: beats, the others' counters, what nobody writes. Each takes the session of one transaction."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import Uuid

# Losing the last beats in a crash of PostgreSQL does no harm, and waiting for the disk twice a second would.
_BEAT = text("""
    WITH quick AS (SELECT set_config('synchronous_commit', 'off', true)),
    mine AS (
        INSERT INTO workers (boot_id, beat) SELECT :boot_id, 1 FROM quick
        ON CONFLICT (boot_id) DO UPDATE SET beat = workers.beat + 1
    )
    SELECT id, conversation_id, attempt, status = 'stopping' FROM messages
    WHERE owner = :boot_id AND status IN ('queued', 'streaming', 'stopping')
""").bindparams(bindparam("boot_id", type_=Uuid()))

_OTHERS = text("""
    SELECT coalesce(w.boot_id, o.owner), w.beat, o.owner IS NOT NULL
    FROM workers w FULL JOIN (
        SELECT DISTINCT owner FROM messages
        WHERE owner IS NOT NULL AND status IN ('queued', 'streaming', 'stopping')
    ) o ON o.owner = w.boot_id
    WHERE coalesce(w.boot_id, o.owner) <> :boot_id
""").bindparams(bindparam("boot_id", type_=Uuid()))

_FIND_BEAT = text("SELECT beat FROM workers WHERE boot_id = :boot_id").bindparams(bindparam("boot_id", type_=Uuid()))

_UNOWNED = text("""
    SELECT m.conversation_id, m.id FROM messages m
    WHERE m.status IN ('queued', 'streaming', 'stopping') AND (m.owner IS NULL OR m.owner = ANY(:dead))
    AND (m.status <> 'queued' OR NOT EXISTS (
        SELECT FROM messages e WHERE e.conversation_id = m.conversation_id AND e.seq < m.seq
        AND e.status IN ('queued', 'streaming', 'stopping')
    ))
    ORDER BY m.status = 'queued', m.id LIMIT :most
""").bindparams(bindparam("dead", type_=ARRAY(Uuid())))

_BURY = text("DELETE FROM workers WHERE boot_id = ANY(:dead)").bindparams(bindparam("dead", type_=ARRAY(Uuid())))


@dataclass(frozen=True, slots=True)
class Mine:
    """A row that says it is this worker's to write."""

    message_id: UUID
    conversation_id: UUID
    attempt: int
    is_stopping: bool


@dataclass(frozen=True, slots=True)
class Other:
    """Another worker's counter; None where it has no row. `owns`: it has live replies."""

    boot_id: UUID
    beat: int | None
    owns: bool


async def beat(db: AsyncSession, boot_id: UUID) -> Sequence[Mine]:
    """Show that this worker lives, and return its live rows."""
    rows = await db.execute(_BEAT, {"boot_id": boot_id})
    return [Mine(*row) for row in rows]


async def list_others(db: AsyncSession, boot_id: UUID) -> Sequence[Other]:
    """Return every other worker that beats or owns."""
    return [Other(*row) for row in await db.execute(_OTHERS, {"boot_id": boot_id})]


async def find_beat(db: AsyncSession, boot_id: UUID) -> int | None:
    """Return a worker's counter; None where it has no row."""
    found: int | None = await db.scalar(_FIND_BEAT, {"boot_id": boot_id})
    return found


async def list_unowned(db: AsyncSession, dead: Collection[UUID], most: int) -> Sequence[tuple[UUID, UUID]]:
    """Return (conversation, reply) of what may be claimed, what was being written first."""
    return [(row[0], row[1]) for row in await db.execute(_UNOWNED, {"dead": list(dead), "most": most})]


async def bury(db: AsyncSession, dead: Collection[UUID]) -> None:
    """Remove workers that own nothing and have long stood still."""
    await db.execute(_BURY, {"dead": list(dead)})
