"""Sites, for those who run the service: made, listed, changed. Each public method has one transaction."""

import secrets
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from parley.auth import sites_repository
from parley.auth.models import Site
from parley.auth.sites import Sites
from parley.auth.sites_schemas import CreateSiteCommand, PatchSiteCommand, SiteView, SiteWithSecretView
from parley.core import audit
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.errors import NotFound
from parley.core.schemas import Page

KEY_PREFIX, SECRET_PREFIX = "pk_", "sk_"  # let people and scanners see which one may stand in a page
KEY_BYTES, SECRET_BYTES = 16, 32


class SiteService:
    """What can be done with sites."""

    def __init__(self, database: Database, sites: Sites, clock: Clock) -> None:
        self._database = database
        self._sites = sites
        self._clock = clock

    async def create_site(self, command: CreateSiteCommand, actor: UUID | None) -> SiteWithSecretView:
        """Make a site; its secret is told here and never again."""
        secret = _new_secret()
        key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
        async with self._database.transaction() as db:
            site = await sites_repository.insert_site(db, command.name, key, secret, _distinct(command.origins))
            _audit(db, "site_created", site, actor)
            view = SiteWithSecretView(**_members(site), secret=secret)
        await self._sites.announce()
        return view

    async def list_sites(self, limit: int, after: UUID | None = None, before: UUID | None = None) -> Page[SiteView]:
        """Return a stretch of the sites, oldest first."""
        async with self._database.transaction() as db:
            rows = await sites_repository.list_sites(db, limit + 1, after, before)
            kept = rows[-limit:] if before is not None else rows[:limit]
            views = [SiteView(**_members(site)) for site in kept]
        return Page(
            data=views,
            first_id=views[0].id if views else None,
            last_id=views[-1].id if views else None,
            has_more=len(rows) > limit,
        )

    async def get_site(self, site_id: UUID) -> SiteView:
        """Return a site."""
        async with self._database.transaction() as db:
            return SiteView(**_members(_found(await sites_repository.find_site(db, site_id))))

    async def change_site(self, site_id: UUID, command: PatchSiteCommand, actor: UUID | None) -> SiteView:
        """Change a site; one that is switched off is refused within seconds, its users at their next renewal."""
        async with self._database.transaction() as db:
            site = _found(await sites_repository.find_site(db, site_id, for_update=True))
            if command.name is not None:
                site.name = command.name
            if command.origins is not None:
                site.origins = _distinct(command.origins)
            if command.disabled is not None:
                site.disabled_at = self._clock.now() if command.disabled else None
            _audit(db, "site_changed", site, actor, changed=sorted(command.model_fields_set))
            view = SiteView(**_members(site))
        await self._sites.announce()
        return view

    async def rotate_secret(self, site_id: UUID, actor: UUID | None) -> SiteWithSecretView:
        """Give a site another secret: the old one signs nothing from now on, and its sessions are not renewed."""
        secret = _new_secret()
        async with self._database.transaction() as db:
            site = _found(await sites_repository.find_site(db, site_id, for_update=True))
            await sites_repository.set_secret(db, site, secret)
            _audit(db, "site_secret_rotated", site, actor)
            return SiteWithSecretView(**_members(site), secret=secret)

    async def find_id(self, key: str) -> UUID:
        """Return the id of the site with this key; the command line names sites so."""
        async with self._database.transaction() as db:
            site = await sites_repository.find_site_by_key(db, key)
        if site is None:
            raise NotFound(f"There is no site {key}.")
        return site.id


def _new_secret() -> str:
    return SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def _distinct(origins: list[str]) -> list[str]:
    return list(dict.fromkeys(origins))


def _found(site: Site | None) -> Site:
    if site is None:
        raise NotFound
    return site


def _members(site: Site) -> dict[str, object]:
    return {
        "id": site.id,
        "name": site.name,
        "key": site.key,
        "origins": site.origins,
        "is_disabled": site.disabled_at is not None,
        "created_at": site.created_at,
    }


def _audit(db: AsyncSession, action: str, site: Site, actor: UUID | None, **detail: object) -> None:
    role = "admin" if actor is not None else None
    audit.record(db, action, actor_id=actor, actor_role=role, subject_id=site.id, detail=detail)
