"""Signed identity: what a site's server says of its user becomes a session of a user of ours.

A user is named by (site, the server's own id) and by nothing else: an equal e-mail address means nothing, and no word
of a site gives a role. A guest who comes along becomes that user, or hands over its conversations and ends.
"""

from collections.abc import Awaitable, Callable
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from parley.auth import repository, sites_repository
from parley.auth.errors import AccountDisabled, IdentityExpired, InvalidIdentity, SiteRefused, TokenRevoked
from parley.auth.models import Site, User
from parley.auth.revocation import Revocations
from parley.auth.schemas import NAME_CHARS, Identity, TokenView, display_name, normal_email
from parley.auth.service import AuthService
from parley.auth.tokens import SiteClaims, TokenInvalid, TokenTooOld, decode_site_token
from parley.core import audit
from parley.core.audit import Caller
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.errors import Vanished
from parley.core.schemas import storable

USER_NAME = "Customer"
# Gives what is the first one's to the second, and locks both. The chat's to do: it owns the tables.
HandOver = Callable[[AsyncSession, UUID, UUID], Awaitable[None]]


class SiteIdentities:
    """Exchanges what sites say for sessions."""

    def __init__(
        self, *, database: Database, auth: AuthService, revocations: Revocations, hand_over: HandOver, clock: Clock
    ) -> None:
        self._database = database
        self._auth = auth
        self._revocations = revocations
        self._hand_over = hand_over
        self._clock = clock

    async def exchange(self, key: str, token: str, guest: Identity | None, caller: Caller) -> TokenView:
        """Return a session of the user that the token names, who is made where there is none."""
        guest_id = guest.user_id if guest is not None and guest.is_guest else None
        try:
            return await self._exchange(key, token, guest_id, caller)
        except (IntegrityError, Vanished):
            # Somebody made the same user at the same moment, in another tab perhaps, or erased it: now that is seen.
            return await self._exchange(key, token, guest_id, caller)

    async def _exchange(self, key: str, token: str, guest_id: UUID | None, caller: Caller) -> TokenView:
        ended: list[UUID] = []
        async with self._database.transaction() as db:
            site = await sites_repository.find_enabled_site(db, key)
            if site is None:
                raise SiteRefused
            claims = self._read(token, site)
            user, has_come_along = await self._settle(db, site, claims.sub, guest_id)
            if user.disabled_at is not None:
                raise AccountDisabled
            user.name = _shown_name(claims.name) or user.name
            user.contact_email = _shown_email(claims.email) or user.contact_email
            if has_come_along:
                # Whoever else holds the guest's tokens does not come along.
                ended = await repository.revoke_sessions(db, "claimed", user_id=guest_id)
            detail = {"site": str(site.id), "guest": str(guest_id) if has_come_along else None}
            audit.record(db, "identified", actor_id=user.id, subject_id=user.id, caller=caller, detail=detail)
            tokens = await self._auth.sign_in(db, user)
        await self._revocations.announce(ended, "claimed")
        return tokens

    def _read(self, token: str, site: Site) -> SiteClaims:
        try:
            claims = decode_site_token(token, site.secret, site.key, self._clock.now().timestamp())
            storable(claims.sub)
        except TokenTooOld:
            raise IdentityExpired from None
        except (TokenInvalid, ValueError):
            raise InvalidIdentity from None
        return claims

    async def _settle(self, db: AsyncSession, site: Site, external_id: str, guest_id: UUID | None) -> tuple[User, bool]:
        """Return the user, locked, and whether a guest has become it or handed over to it."""
        user_id = await sites_repository.find_site_user_id(db, site.id, external_id)
        # A token may live a little longer than what it was made for: then its bearer comes alone.
        if guest_id is None or not await sites_repository.is_guest(db, guest_id):
            return await self._settle_alone(db, site, external_id, user_id), False
        if user_id is not None:
            await self._hand_over(db, guest_id, user_id)
        guest = await repository.find_user(db, guest_id, for_update=True)
        if guest is None or not guest.is_guest:
            raise TokenRevoked  # became somebody just now; nothing of this has happened
        if user_id is not None:
            return await self._settle_alone(db, site, external_id, user_id), True
        guest.site_id, guest.external_id = site.id, external_id
        await db.flush()
        return guest, True

    async def _settle_alone(self, db: AsyncSession, site: Site, external_id: str, user_id: UUID | None) -> User:
        user = await repository.find_user(db, user_id, for_update=True) if user_id else None
        return user or await sites_repository.insert_site_user(db, site.id, external_id, USER_NAME)


def _shown_name(name: str | None) -> str:
    """Return a name as it can be shown; one that cannot is no reason to send its owner away."""
    try:
        return display_name((name or "")[:NAME_CHARS])
    except ValueError:
        return ""


def _shown_email(email: str | None) -> str | None:
    try:
        return normal_email(email) if email else None
    except ValueError:
        return None
