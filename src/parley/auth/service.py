"""Accounts and sessions: each public method is one story with its own transaction, opened and closed inside.

Passwords are hashed outside any transaction: a connection is never held while a thread works.
"""

import functools
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from parley.auth import repository, sites_repository
from parley.auth.errors import (
    AccountDisabled,
    AlreadyRegistered,
    EmailTaken,
    InvalidToken,
    RefreshSuperseded,
    TokenRevoked,
    WrongCredentials,
)
from parley.auth.models import User
from parley.auth.passwords import PasswordHasher
from parley.auth.revocation import Revocations
from parley.auth.schemas import Identity, TokenView, UserView
from parley.auth.settings import AuthSettings
from parley.auth.tokens import AccessClaims, Role, TokenCodec
from parley.core import audit
from parley.core.audit import Caller
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.errors import NotFound
from parley.core.ids import new_id

REFRESH_PREFIX = "prt_"  # lets a leaked one be recognised, in logs and by scanners
GUEST_NAME = "Guest"


P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="AuthService")


def _in_turn(
    method: Callable[Concatenate[S, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Let a method that works with passwords begin when it is its turn."""

    @functools.wraps(method)
    async def wait_first(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        async with self.hasher.turn():
            return await method(self, *args, **kwargs)

    return cast("Callable[Concatenate[S, P], Coroutine[Any, Any, T]]", wait_first)


class AuthService:
    """What can be done with accounts."""

    def __init__(
        self,
        *,
        database: Database,
        hasher: PasswordHasher,
        codec: TokenCodec,
        revocations: Revocations,
        settings: AuthSettings,
        clock: Clock,
    ) -> None:
        self._database = database
        self.hasher = hasher
        self._codec = codec
        self._revocations = revocations
        self._clock = clock
        self._access_ttl_s = settings.access_ttl_s
        self._refresh_ttl = timedelta(seconds=settings.refresh_ttl_s)
        self._grace_s = settings.refresh_grace_s

    @_in_turn
    async def register(self, email: str, password: str, name: str, guest: Identity | None, caller: Caller) -> TokenView:
        """Make an account and sign it in; a guest becomes the account and keeps its id and what it has written."""
        if guest is not None and not guest.is_guest:
            raise AlreadyRegistered
        password_hash = await self.hasher.hash(password)
        ended: list[UUID] = []
        try:
            async with self._database.transaction() as db:
                if guest is None:
                    user = await repository.insert_user(db, email, name, password_hash, "user")
                else:
                    user = await self._claim(db, guest, email, password_hash, name)
                    # Whoever else holds the guest's tokens does not come along into the account.
                    ended = await repository.revoke_sessions(db, "claimed", user_id=user.id)
                self._audit(db, "registered", user.id, caller, claimed=guest is not None)
                tokens = await self.sign_in(db, user)
        except IntegrityError as error:
            raise _email_taken(error) from None
        await self._revocations.announce(ended, "claimed")
        return tokens

    @_in_turn
    async def log_in(self, email: str, password: str, caller: Caller) -> TokenView:
        """Sign in with a password; WrongCredentials takes as long for an account that does not exist."""
        async with self._database.transaction() as db:
            found = await repository.find_user_by_email(db, email)
        stored = found.password_hash if found else None
        is_right = await self.hasher.verify(password, stored)
        newer = await self.hasher.hash(password) if is_right and stored and self.hasher.is_outdated(stored) else None
        async with self._database.transaction() as db:
            user = await repository.find_user(db, found.id, for_update=True) if found else None
            # Read again: the password may have been changed or the account disabled while the thread worked.
            is_right = is_right and user is not None and user.password_hash == stored
            tokens = None
            if user is None or not is_right:
                self._audit(db, "login_failed", user.id if user else None, caller)
            elif user.disabled_at is not None:
                self._audit(db, "login_refused", user.id, caller)
            else:
                user.password_hash = newer or stored
                self._audit(db, "logged_in", user.id, caller)
                tokens = await self.sign_in(db, user)
        if tokens is not None:
            return tokens
        raise AccountDisabled if is_right else WrongCredentials

    async def refresh(self, refresh_token: str, caller: Caller) -> TokenView:
        """Exchange a refresh token for new tokens; one used before ends the whole session, but for a short grace."""
        token_hash = _hash(refresh_token)
        async with self._database.transaction() as db:
            session_id = await repository.use_refresh_token(db, token_hash)
            if session_id is not None:
                return await self._renew(db, session_id)
            known = await repository.find_refresh_token(db, token_hash)
            session_id, used_s_ago = known or (None, None)
            if session_id is None or used_s_ago is None:
                raise InvalidToken("The refresh token is not valid.")
            if used_s_ago <= self._grace_s:
                raise RefreshSuperseded
            ended = await repository.revoke_sessions(db, "refresh_reused", session_id=session_id)
            self._audit(db, "refresh_reused", None, caller, session=str(session_id))
        await self._revocations.announce(ended, "refresh_reused")
        raise TokenRevoked("This refresh token was used before, so its session has been ended. Sign in again.")

    async def log_out(self, identity: Identity, *, everywhere: bool, caller: Caller) -> None:
        """End this session, or all sessions of the user."""
        async with self._database.transaction() as db:
            ended = await repository.revoke_sessions(
                db,
                "logged_out",
                user_id=identity.user_id,
                session_id=None if everywhere else identity.session_id,
            )
            self._audit(db, "logged_out", identity.user_id, caller, everywhere=everywhere)
        await self._revocations.announce(ended, "logged_out")

    @_in_turn
    async def change_password(self, identity: Identity, current: str, new: str, caller: Caller) -> TokenView:
        """Set a new password, end every session and start one."""
        async with self._database.transaction() as db:
            user = await self._access_user(db, identity.user_id)
            stored = user.password_hash
        if not await self.hasher.verify(current, stored):
            raise WrongCredentials("The current password is wrong.", param="current_password")
        new_hash = await self.hasher.hash(new)
        async with self._database.transaction() as db:
            user = await self._access_user(db, identity.user_id)
            if user.password_hash != stored:
                raise WrongCredentials("The password was changed a moment ago.", param="current_password")
            user.password_hash = new_hash
            ended = await repository.revoke_sessions(db, "password_changed", user_id=user.id)
            self._audit(db, "password_changed", user.id, caller)
            tokens = await self.sign_in(db, user)
        await self._revocations.announce(ended, "password_changed")
        return tokens

    async def admit_guest(self, name: str, caller: Caller) -> TokenView:
        """Make an account without e-mail and password, for a visitor of a web page."""
        async with self._database.transaction() as db:
            user = await repository.insert_user(db, None, name or GUEST_NAME, None, "user")
            self._audit(db, "guest_admitted", user.id, caller)
            return await self.sign_in(db, user)

    async def get_user(self, user_id: UUID) -> UserView:
        """Return an account, as its owner may see it."""
        async with self._database.transaction() as db:
            return _view(await self._access_user(db, user_id, for_update=False))

    # What only those who run the service may do; the command line asks for it.

    @_in_turn
    async def create_user(self, email: str, password: str, name: str, role: Role) -> UserView:
        """Make an account with a role."""
        password_hash = await self.hasher.hash(password)
        try:
            async with self._database.transaction() as db:
                user = await repository.insert_user(db, email, name, password_hash, role)
                self._audit(db, "user_created", None, Caller(), subject=user.id, role=role)
                return _view(user)
        except IntegrityError as error:
            raise _email_taken(error) from None

    async def list_users(self, limit: int, after: UUID | None = None) -> Sequence[UserView]:
        """Return registered accounts in the order they were made."""
        async with self._database.transaction() as db:
            return [_view(user) for user in await repository.list_users(db, limit, after)]

    async def set_disabled(self, email: str, *, disabled: bool) -> UserView:
        """Switch an account off, which ends its sessions, or on again."""
        async with self._database.transaction() as db:
            user = await self._access_user_by_email(db, email)
            user.disabled_at = self._clock.now() if disabled else None
            ended = await repository.revoke_sessions(db, "disabled", user_id=user.id) if disabled else []
            self._audit(db, "user_disabled" if disabled else "user_enabled", None, Caller(), subject=user.id)
            view = _view(user)
        await self._revocations.announce(ended, "disabled")
        return view

    async def set_role(self, email: str, role: Role) -> UserView:
        """Give an account another role; its sessions end, because their tokens carry the old one."""
        async with self._database.transaction() as db:
            user = await self._access_user_by_email(db, email)
            was, user.role = user.role, role
            ended = await repository.revoke_sessions(db, "role_changed", user_id=user.id) if was != role else []
            self._audit(db, "role_changed", None, Caller(), subject=user.id, was=was, now=role)
            view = _view(user)
        await self._revocations.announce(ended, "role_changed")
        return view

    async def _claim(self, db: AsyncSession, guest: Identity, email: str, password_hash: str, name: str) -> User:
        user = await self._access_user(db, guest.user_id)
        if not user.is_guest:
            raise AlreadyRegistered
        user.email, user.password_hash, user.name = email, password_hash, name or user.name
        await db.flush()
        return user

    async def _access_user(self, db: AsyncSession, user_id: UUID, *, for_update: bool = True) -> User:
        user = await repository.find_user(db, user_id, for_update=for_update)
        if user is None:
            raise TokenRevoked
        if user.disabled_at is not None:
            raise AccountDisabled
        return user

    async def _access_user_by_email(self, db: AsyncSession, email: str) -> User:
        # Locked: a log-in that runs at the same time must see the change, or be seen by the revocation that follows it.
        user = await repository.find_user_by_email(db, email, for_update=True)
        if user is None:
            raise NotFound(f"There is no account {email}.")
        return user

    async def _renew(self, db: AsyncSession, session_id: UUID) -> TokenView:
        found = await repository.find_session_and_user(db, session_id)
        if found is None:
            raise TokenRevoked
        session, user = found
        if user.disabled_at is not None:
            raise AccountDisabled
        if session.revoked_at is not None:
            raise TokenRevoked
        if user.site_id and not await sites_repository.may_go_on(db, user.site_id, session.created_at):
            raise TokenRevoked
        session.expires_at = self._clock.now() + self._refresh_ttl
        return await self._issue(db, user, session_id)

    async def sign_in(self, db: AsyncSession, user: User) -> TokenView:
        """Begin a session of this user, in the caller's transaction."""
        session_id = await repository.insert_session(db, user.id, self._clock.now() + self._refresh_ttl)
        return await self._issue(db, user, session_id)

    async def _issue(self, db: AsyncSession, user: User, session_id: UUID) -> TokenView:
        refresh_token = REFRESH_PREFIX + secrets.token_urlsafe(32)
        expires_at = self._clock.now() + self._refresh_ttl
        await repository.insert_refresh_token(db, _hash(refresh_token), session_id, expires_at)
        now = int(self._clock.now().timestamp())
        view = _view(user)
        access_token = self._codec.encode(
            AccessClaims(
                typ="access",
                iss=self._codec.issuer,
                aud=self._codec.audience,
                sub=user.id,
                sid=session_id,
                jti=new_id().hex,
                iat=now,
                exp=now + self._access_ttl_s,
                role=view.role,
                guest=user.is_guest,
            )
        )
        return TokenView(
            access_token=access_token, refresh_token=refresh_token, expires_in=self._access_ttl_s, user=view
        )

    def _audit(
        self,
        db: AsyncSession,
        action: str,
        actor: UUID | None,
        caller: Caller,
        *,
        subject: UUID | None = None,
        **detail: object,
    ) -> None:
        audit.record(db, action, actor_id=actor, subject_id=subject or actor, caller=caller, detail=detail)


def _hash(refresh_token: str) -> bytes:
    """Return what is stored of a refresh token: it is random, so a plain hash cannot be guessed back."""
    return hashlib.sha256(refresh_token.encode(errors="surrogatepass")).digest()


def _email_taken(error: IntegrityError) -> Exception:
    """Return what the caller is told when the address is taken; any other broken rule is our own fault."""
    return EmailTaken(param="email") if "uq_users_email" in str(error.orig) else error


def _view(user: User) -> UserView:
    return UserView.model_validate(
        {
            "id": user.id,
            "email": user.email,
            "contact_email": user.contact_email,
            "name": user.name,
            "role": user.role,
            "is_guest": user.is_guest,
            "is_disabled": user.disabled_at is not None,
            "created_at": user.created_at,
        }
    )
