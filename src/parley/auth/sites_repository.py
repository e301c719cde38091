"""Every query on sites and on those whom their servers name. Each takes the session of the service's transaction."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Row, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from parley.auth.models import Site, User


async def insert_site(db: AsyncSession, name: str, key: str, secret: str, origins: Sequence[str]) -> Site:
    """Insert a site."""
    values = {"name": name, "key": key, "secret": secret, "origins": list(origins)}
    return (await db.scalars(insert(Site).values(**values).returning(Site))).one()


async def find_site(db: AsyncSession, site_id: UUID, *, for_update: bool = False) -> Site | None:
    query = select(Site).where(Site.id == site_id)
    return await db.scalar(query.with_for_update() if for_update else query)


async def find_site_by_key(db: AsyncSession, key: str, *, for_update: bool = False) -> Site | None:
    query = select(Site).where(Site.key == key)
    return await db.scalar(query.with_for_update() if for_update else query)


async def find_enabled_site(db: AsyncSession, key: str) -> Site | None:
    """Return a site that is switched on, and keep its secret from being changed until the transaction ends."""
    query = select(Site).where(Site.key == key, Site.disabled_at.is_(None))
    return await db.scalar(query.with_for_update(read=True))


async def list_sites(db: AsyncSession, limit: int, after: UUID | None, before: UUID | None) -> Sequence[Site]:
    """Return sites in the order they were made: those after a place, or the last ones before it."""
    query = select(Site).limit(limit)
    if before is not None:
        return (await db.scalars(query.where(Site.id < before).order_by(Site.id.desc()))).all()[::-1]
    if after is not None:
        query = query.where(Site.id > after)
    return (await db.scalars(query.order_by(Site.id))).all()


async def list_enabled(db: AsyncSession) -> Sequence[Row[str, list[str]]]:
    """Return key and origins of every site that is switched on."""
    return (await db.execute(select(Site.key, Site.origins).where(Site.disabled_at.is_(None)))).all()


async def set_secret(db: AsyncSession, site: Site, secret: str) -> None:
    """Change the secret of a site whose row is locked."""
    # Not the time of the transaction: somebody may have signed in with the old one while this waited for the lock.
    site.secret_at = await db.scalar(select(func.clock_timestamp())) or site.secret_at
    site.secret = secret


async def may_go_on(db: AsyncSession, site_id: UUID, began_at: datetime) -> bool:
    """Whether a session of somebody a site named may be renewed: the site is on, and its secret the same."""
    query = select(Site.id).where(Site.id == site_id, Site.disabled_at.is_(None), Site.secret_at <= began_at)
    return await db.scalar(query) is not None


async def find_site_user_id(db: AsyncSession, site_id: UUID, external_id: str) -> UUID | None:
    """Return the id of whom a site calls so."""
    return await db.scalar(select(User.id).where(User.site_id == site_id, User.external_id == external_id))


async def is_guest(db: AsyncSession, user_id: UUID) -> bool:
    """Whether this is a guest who may come; the row is not locked and not held."""
    query = select(User.id).where(User.id == user_id, User.email.is_(None), User.site_id.is_(None))
    return await db.scalar(query.where(User.disabled_at.is_(None))) is not None


async def insert_site_user(db: AsyncSession, site_id: UUID, external_id: str, name: str) -> User:
    """Insert somebody whom a site names; IntegrityError when somebody else did so at the same time."""
    values = {"site_id": site_id, "external_id": external_id, "name": name, "role": "user"}
    return (await db.scalars(insert(User).values(**values).returning(User))).one()
