"""Tickets: what a browser puts into the address of a socket, where a token must never stand.

Signed, good for seconds, bound to user, Origin and conversation. Used once while Redis answers; while it is away the
other bindings hold, and the use is counted.
"""

import asyncio
from uuid import UUID

import structlog
from redis.asyncio import Redis

from parley.auth.errors import InvalidToken, OriginRefused, TokenExpired
from parley.auth.schemas import Identity
from parley.auth.settings import AuthSettings
from parley.auth.tokens import TicketClaims, TokenCodec, TokenInvalid, TokenTooOld
from parley.core.clock import Clock
from parley.core.ids import new_id
from parley.core.origins import Origins
from parley.core.redis import REDIS_AWAY

log = structlog.get_logger(__name__)


class Tickets:
    """Sells and redeems tickets."""

    def __init__(self, codec: TokenCodec, redis: Redis, origins: Origins, settings: AuthSettings, clock: Clock) -> None:
        self._codec = codec
        self._redis = redis
        self._origins = origins
        self._ttl_s = settings.ticket_ttl_s
        self._clock = clock
        self.unchecked = 0
        """Tickets taken without asking Redis whether they had been used."""

    @property
    def ttl_s(self) -> int:
        return self._ttl_s

    def sell(self, identity: Identity, origin: str | None, conversation_id: UUID | None) -> str:
        """Return a ticket for this user and the page that asks; OriginRefused for a page that is not listed."""
        if origin is not None and not self._origins.allow(origin):
            raise OriginRefused
        now = int(self._clock.now().timestamp())
        return self._codec.encode(
            TicketClaims(
                typ="ticket",
                iss=self._codec.issuer,
                aud=self._codec.audience,
                sub=identity.user_id,
                sid=identity.session_id,
                jti=new_id().hex,
                iat=now,
                exp=now + self._ttl_s,
                role=identity.role,
                guest=identity.is_guest,
                origin=origin,
                conversation=conversation_id,
                ends=identity.expires_at,
            )
        )

    async def redeem(self, ticket: str, origin: str | None, conversation_id: UUID | None) -> Identity:
        """Return whose ticket it is, once; raise InvalidToken, TokenExpired or OriginRefused."""
        try:
            claims = self._codec.decode(ticket, TicketClaims, self._clock.now().timestamp())
        except TokenInvalid:
            raise InvalidToken("The ticket is not valid.") from None
        except TokenTooOld:
            raise TokenExpired("The ticket has expired.") from None
        if claims.origin != origin:
            raise OriginRefused("The ticket was made for another page.")
        if claims.conversation is not None and claims.conversation != conversation_id:
            raise InvalidToken("The ticket is not valid here.")
        if not await self._is_first_use(claims.jti):
            raise InvalidToken("The ticket has been used.")
        return Identity(claims.sub, claims.sid, claims.role, claims.guest, claims.ends)

    async def _is_first_use(self, ticket_id: str) -> bool:
        try:
            async with asyncio.timeout(1.0):
                return bool(await self._redis.set(f"parley:ticket:{ticket_id}", b"", nx=True, ex=self._ttl_s + 1))
        except REDIS_AWAY:
            self.unchecked += 1
            log.warning("ticket_not_checked")
            return True
