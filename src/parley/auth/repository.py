"""Every query on accounts. Each takes the session of the service's transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Float, Row, cast, extract, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from parley.auth.models import RefreshToken, Session, User


async def find_user_by_email(db: AsyncSession, email: str, *, for_update: bool = False) -> User | None:
    query = select(User).where(User.email == email)
    return await db.scalar(query.with_for_update() if for_update else query)


async def find_user(db: AsyncSession, user_id: UUID, *, for_update: bool = False) -> User | None:
    query = select(User).where(User.id == user_id)
    return await db.scalar(query.with_for_update() if for_update else query)


async def list_users(db: AsyncSession, limit: int, after: UUID | None) -> Sequence[User]:
    query = select(User).where(User.email.is_not(None)).order_by(User.id).limit(limit)
    return (await db.scalars(query.where(User.id > after) if after else query)).all()


async def use_refresh_token(db: AsyncSession, token_hash: bytes) -> UUID | None:
    """Mark a token as used and return its session, or None when it is unknown, too old or was used before."""
    return await db.scalar(
        update(RefreshToken)
        .where(
            RefreshToken.token_hash == token_hash,
            RefreshToken.used_at.is_(None),
            RefreshToken.expires_at > func.now(),
        )
        .values(used_at=func.now())
        .returning(RefreshToken.session_id)
    )


async def find_refresh_token(db: AsyncSession, token_hash: bytes) -> Row[UUID, float | None] | None:
    """Return the token's session and the seconds since it was used."""
    used_s_ago = cast(extract("epoch", func.now() - RefreshToken.used_at), Float)
    query = select(RefreshToken.session_id, used_s_ago).where(RefreshToken.token_hash == token_hash)
    return (await db.execute(query)).one_or_none()


async def find_session_and_user(db: AsyncSession, session_id: UUID) -> Row[Session, User] | None:
    """Return a session and whose it is, both locked against a revocation that comes at the same time.

    The user first, as everybody does who locks both: two orders would lock each other out.
    """
    theirs = select(User.id).join(Session, Session.user_id == User.id).where(Session.id == session_id)
    await db.execute(theirs.with_for_update(of=User))
    query = select(Session, User).join(User, User.id == Session.user_id).where(Session.id == session_id)
    return (await db.execute(query.with_for_update(of=Session))).one_or_none()


async def revoke_sessions(
    db: AsyncSession, reason: str, *, user_id: UUID | None = None, session_id: UUID | None = None
) -> list[UUID]:
    """End one session, or all of a user; return those that this call ended."""
    query = update(Session).where(Session.revoked_at.is_(None))
    if session_id is not None:
        query = query.where(Session.id == session_id)
    if user_id is not None:
        query = query.where(Session.user_id == user_id)
    result = await db.scalars(query.values(revoked_at=func.now(), revoked_reason=reason).returning(Session.id))
    return list(result)


async def list_revoked(db: AsyncSession, within: timedelta) -> Sequence[Row[UUID, str | None]]:
    """Return the sessions revoked lately, with the reason."""
    query = select(Session.id, Session.revoked_reason).where(Session.revoked_at > func.now() - within)
    return (await db.execute(query)).all()


async def insert_user(db: AsyncSession, email: str | None, name: str, password_hash: str | None, role: str) -> User:
    """Insert an account; IntegrityError when the address is taken."""
    values = {"email": email, "name": name, "password_hash": password_hash, "role": role}
    return (await db.scalars(insert(User).values(**values).returning(User))).one()


async def insert_session(db: AsyncSession, user_id: UUID, expires_at: datetime) -> UUID:
    """Insert a session and return its id."""
    query = insert(Session).values(user_id=user_id, expires_at=expires_at).returning(Session.id)
    return (await db.scalars(query)).one()


async def insert_refresh_token(db: AsyncSession, token_hash: bytes, session_id: UUID, expires_at: datetime) -> None:
    await db.execute(insert(RefreshToken).values(token_hash=token_hash, session_id=session_id, expires_at=expires_at))
