"""Who may call a route, said in its signature. The same rules hold for HTTP and, before the accept, for sockets."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends
from fastapi.security import OAuth2PasswordBearer
from starlette.requests import HTTPConnection

from parley.auth.errors import AccountDisabled, InvalidToken, OriginRefused, TokenExpired, TokenRevoked
from parley.auth.revocation import Revocations
from parley.auth.schemas import Identity
from parley.auth.service import AuthService
from parley.auth.sites import Sites
from parley.auth.tickets import Tickets
from parley.auth.tokens import TokenCodec, TokenInvalid, TokenTooOld
from parley.core.audit import Caller
from parley.core.clock import Clock
from parley.core.errors import AppError, Forbidden, Unauthorized
from parley.core.origins import Origins

# For the document only: our own code reads the header, so that sockets are served too.
_scheme = OAuth2PasswordBearer("/auth/token", auto_error=False)


class Gate:
    """Turns tokens and tickets into identities; one a worker."""

    def __init__(
        self, codec: TokenCodec, revocations: Revocations, tickets: Tickets, origins: Origins, clock: Clock
    ) -> None:
        self._codec = codec
        self._revocations = revocations
        self.tickets = tickets
        self.origins = origins
        self._clock = clock

    def identify(self, connection: HTTPConnection) -> str | None:
        """Return the key of a signed-in caller, None for everybody else: what limits count by."""
        try:
            return self.authenticate(connection).limit_key
        except AppError:
            return None

    def authenticate(self, connection: HTTPConnection) -> Identity:
        """Return who stands behind the Authorization header; decided once a request."""
        outcome = connection.scope.get("identity")
        if outcome is None:
            try:
                outcome = self._authenticate(connection)
            except AppError as error:
                outcome = error
            connection.scope["identity"] = outcome
        if isinstance(outcome, AppError):
            raise outcome
        identity: Identity = outcome
        return identity

    async def admit(self, connection: HTTPConnection) -> Identity:
        """Return who opens a socket or stream: by Authorization, or by a ticket in the address; Origin is checked."""
        origin = connection.headers.get("origin")
        if origin is not None and not self.origins.allow(origin):
            raise OriginRefused
        if "authorization" in connection.headers:
            return self.authenticate(connection)
        ticket = connection.query_params.get("ticket")
        if ticket is None:
            raise Unauthorized
        identity = await self.tickets.redeem(ticket, origin, _conversation_named(connection))
        self._check_session(identity.session_id)
        connection.scope["identity"] = identity  # whom limits count by
        return identity

    def _authenticate(self, connection: HTTPConnection) -> Identity:
        headers = connection.headers.getlist("authorization")
        if not headers:
            raise Unauthorized
        scheme, _, token = headers[0].partition(" ")
        if len(headers) > 1 or scheme.lower() != "bearer":
            raise InvalidToken
        try:
            claims = self._codec.decode_access(token, self._clock.now().timestamp())
        except TokenInvalid:
            raise InvalidToken from None
        except TokenTooOld:
            raise TokenExpired from None
        self._check_session(claims.sid)
        return Identity(claims.sub, claims.sid, claims.role, claims.guest, claims.exp)

    def _check_session(self, session_id: UUID) -> None:
        reason = self._revocations.reason(session_id)
        if reason == "disabled":
            raise AccountDisabled
        if reason is not None:
            raise TokenRevoked


def _conversation_named(connection: HTTPConnection) -> UUID | None:
    try:
        return UUID(connection.path_params["conversation_id"])
    except (KeyError, ValueError):
        return None


# Coroutines, though nothing is waited for: FastAPI takes plain functions to a thread.
async def _service(connection: HTTPConnection) -> AuthService:
    service: AuthService = connection.state.auth
    return service


async def _gate(connection: HTTPConnection) -> Gate:
    gate: Gate = connection.state.gate
    return gate


async def _caller(connection: HTTPConnection) -> Caller:
    return Caller(str(connection.scope["client_address"]), connection.scope["request_id"])


async def _sites(connection: HTTPConnection) -> Sites:
    sites: Sites = connection.state.sites
    return sites


TheGate = Annotated[Gate, Depends(_gate)]
TheSites = Annotated[Sites, Depends(_sites)]
Service = Annotated[AuthService, Depends(_service)]
TheCaller = Annotated[Caller, Depends(_caller)]


async def _current(
    connection: HTTPConnection, gate: TheGate, _documented: Annotated[str | None, Depends(_scheme)]
) -> Identity:
    return gate.authenticate(connection)


async def _optional(connection: HTTPConnection, gate: TheGate) -> Identity | None:
    """Nobody is fine; a token that is there must be good."""
    return gate.authenticate(connection) if "authorization" in connection.headers else None


async def _admitted(connection: HTTPConnection, gate: TheGate) -> Identity:
    return await gate.admit(connection)


CurrentUser = Annotated[Identity, Depends(_current)]
OptionalUser = Annotated[Identity | None, Depends(_optional)]
AdmittedUser = Annotated[Identity, Depends(_admitted)]


async def _operator(identity: CurrentUser) -> Identity:
    if identity.role not in {"operator", "admin"}:
        raise Forbidden("This is for operators.")
    return identity


async def _admin(identity: CurrentUser) -> Identity:
    if identity.role != "admin":
        raise Forbidden("This is for admins.")
    return identity


Operator = Annotated[Identity, Depends(_operator)]
Admin = Annotated[Identity, Depends(_admin)]
