"""What auth holds of a person, and for how long: queries for export, erasure and retention.

Each takes the session of the caller's transaction.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, Text, and_, cast, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from parley.auth import repository
from parley.auth.models import RefreshToken, Session, Site, User
from parley.core import audit
from parley.core.audit import AuditEntry

WHY_ENDED = "erased"
ERASED = "user_erased"  # the one entry of the trail that goes on naming an id


async def find_id(db: AsyncSession, email: str) -> UUID | None:
    """Return whose account it is."""
    return await db.scalar(select(User.id).where(User.email == email))


async def is_known(db: AsyncSession, user_id: UUID) -> bool:
    """Whether there is such a person, or was one who was erased."""
    was_erased = exists().where(AuditEntry.action == ERASED, AuditEntry.subject_id == user_id)
    return bool(await db.scalar(select(or_(exists().where(User.id == user_id), was_erased))))


# Export.


async def read_account(db: AsyncSession, user_id: UUID) -> RowMapping | None:
    """Return an account with what its site calls it; no password in any form."""
    has_password = User.password_hash.is_not(None).label("has_password")
    columns = [column for column in User.__table__.columns if column.key != "password_hash"]
    query = select(*columns, has_password, Site.name.label("site_name"), Site.key.label("site_key"))
    query = query.outerjoin(Site, Site.id == User.site_id).where(User.id == user_id)
    return (await db.execute(query)).mappings().one_or_none()


async def list_sessions(db: AsyncSession, user_id: UUID) -> Sequence[RowMapping]:
    """Return the sessions of somebody: when they began and ended, and no token."""
    query = select(*Session.__table__.columns).where(Session.user_id == user_id).order_by(Session.id)
    return (await db.execute(query)).mappings().all()


async def list_audit(db: AsyncSession, user_id: UUID, after: UUID | None, limit: int) -> Sequence[RowMapping]:
    """Return what the trail says of somebody, oldest first."""
    query = select(*AuditEntry.__table__.columns).where(_of(user_id)).order_by(AuditEntry.id).limit(limit)
    query = query.where(AuditEntry.id > after) if after else query
    return (await db.execute(query)).mappings().all()


# Erasure.


async def close_account(db: AsyncSession, user_id: UUID) -> list[UUID]:
    """Let nobody sign in any more and end every session; return those that this call ended."""
    await db.execute(
        update(User).where(User.id == user_id).values(disabled_at=func.coalesce(User.disabled_at, func.now()))
    )
    return await repository.revoke_sessions(db, WHY_ENDED, user_id=user_id)


async def remove_account(db: AsyncSession, user_id: UUID) -> Mapping[str, int]:
    """Remove a person whose conversations are gone; what others did stays in the trail, without the name."""
    counts = {"audit_entries": await _remove_from_trail(db, user_id)}
    theirs = select(Session.id).where(Session.user_id == user_id)
    tokens = await db.execute(
        delete(RefreshToken).where(RefreshToken.session_id.in_(theirs)).returning(RefreshToken.session_id)
    )
    # They name nobody from now on; workers that start meanwhile read from them which access tokens to refuse.
    sessions = await db.execute(
        update(Session).where(Session.user_id == user_id).values(user_id=None).returning(Session.id)
    )
    removed = await db.execute(delete(User).where(User.id == user_id).returning(User.id))
    return counts | {
        "refresh_tokens": len(tokens.all()),
        "sessions": len(sessions.all()),
        "accounts": len(removed.all()),
    }


async def _remove_from_trail(db: AsyncSession, user_id: UUID) -> int:
    """Take somebody out of the trail: whole entries where nobody else is in them, else the name."""
    await audit.allow_removal(db)
    alone = and_(
        or_(AuditEntry.actor_id == user_id, and_(AuditEntry.actor_id.is_(None), AuditEntry.subject_id == user_id)),
        AuditEntry.actor_role.is_(None),
        AuditEntry.action != ERASED,
    )
    gone = (await db.execute(delete(AuditEntry).where(alone).returning(AuditEntry.id))).all()
    acted = {"actor_id": None, "address": None, "request_id": None}
    await db.execute(update(AuditEntry).where(AuditEntry.actor_id == user_id).values(**acted))
    about = and_(AuditEntry.subject_id == user_id, AuditEntry.action != ERASED)
    await db.execute(update(AuditEntry).where(about).values(subject_id=None))
    # Whom an operator invited or removed.
    invited = AuditEntry.action.in_(("participant_invited", "participant_removed"))
    named = and_(invited, AuditEntry.detail["user"].astext == str(user_id))
    nameless = AuditEntry.detail.op("-")(cast("user", Text))
    await db.execute(update(AuditEntry).where(named).values(detail=nameless))
    return len(gone)


def _of(user_id: UUID) -> ColumnElement[bool]:
    return or_(AuditEntry.actor_id == user_id, AuditEntry.subject_id == user_id)


# Retention: each takes a stretch of a table by its key and returns where the next one begins, None at the end.


async def remove_old_tokens(
    db: AsyncSession, after: bytes, before: datetime, limit: int, *, is_dry: bool
) -> tuple[bytes | None, int]:
    """Remove refresh tokens that expired before a moment."""
    key = RefreshToken.token_hash
    page = (await db.execute(select(key, RefreshToken.expires_at).where(key > after).order_by(key).limit(limit))).all()
    old = [token_hash for token_hash, expires_at in page if expires_at < before]
    if old and not is_dry:
        await db.execute(delete(RefreshToken).where(key.in_(old), RefreshToken.expires_at < before))
    return (page[-1][0] if page else None), len(old)


async def remove_old_sessions(
    db: AsyncSession, after: UUID, before: datetime, limit: int, *, is_dry: bool
) -> tuple[UUID | None, int]:
    """Remove sessions that expired before a moment, with their tokens."""
    page = (
        await db.execute(
            select(Session.id, Session.expires_at).where(Session.id > after).order_by(Session.id).limit(limit)
        )
    ).all()
    old = [session_id for session_id, expires_at in page if expires_at < before]
    if old and not is_dry:
        await db.execute(delete(Session).where(Session.id.in_(old), Session.expires_at < before))
    return (page[-1][0] if page else None), len(old)


async def list_nobodies(db: AsyncSession, after: UUID, limit: int) -> tuple[UUID | None, Sequence[UUID]]:
    """Return those who cannot come back as who they are, or are made anew when they come, and have no session."""
    page = (await db.scalars(select(User.id).where(User.id > after).order_by(User.id).limit(limit))).all()
    # A site's user who is switched off would be switched on by being made anew.
    is_nobody = and_(User.email.is_(None), or_(User.site_id.is_(None), User.disabled_at.is_(None)))
    alone = ~exists().where(Session.user_id == User.id)
    nobodies = (await db.scalars(select(User.id).where(User.id.in_(page), is_nobody, alone))).all() if page else []
    return (page[-1] if page else None), nobodies


async def remove_nobodies(db: AsyncSession, user_ids: Sequence[UUID]) -> int:
    """Remove those of them who still have no session."""
    alone = ~exists().where(Session.user_id == User.id)
    query = delete(User).where(User.id.in_(user_ids), User.email.is_(None), alone)
    return len((await db.execute(query.returning(User.id))).all())


async def count_old_audit(db: AsyncSession, before: UUID) -> int:
    """Return how many entries of the trail are older than an id."""
    return await db.scalar(select(func.count()).where(AuditEntry.id < before)) or 0


async def remove_old_audit(db: AsyncSession, before: UUID, limit: int) -> int:
    """Remove the oldest entries of the trail that are older than an id."""
    await audit.allow_removal(db)
    oldest = select(AuditEntry.id).where(AuditEntry.id < before).order_by(AuditEntry.id).limit(limit)
    query = delete(AuditEntry).where(AuditEntry.id.in_(oldest)).returning(AuditEntry.id)
    return len((await db.execute(query)).all())
