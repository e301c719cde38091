"""Signed tokens: access tokens, socket tickets, and what a site's server says of its user. Pure: keys and time come in.

Only HS256, only a header of exactly the known members, only claims of exactly the right types: everything else is
TokenInvalid, whatever the library underneath would make of it.
"""

import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Literal, TypeVar
from uuid import UUID

import msgspec
from jose import jws

ALGORITHM = "HS256"
MAX_TOKEN_CHARS = 4096
MAX_HEADER_CHARS = 256  # ours has 80; a longer one is somebody trying
MAX_LIFETIME_S = 86_400  # the most the settings allow
MAX_SUBJECT_CHARS = 255  # of a site's name for its user; the column takes no more
MOST_VERIFIED = 2000  # access tokens whose signature is remembered: a few MB
CLOCK_SKEW_S = 30  # between the machines that sign and check

Role = Literal["user", "operator", "admin"]
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")


class TokenInvalid(Exception):
    """The text is not a token of ours for this use."""


class TokenTooOld(Exception):
    """It was a token of ours for this use, and its time is over."""


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    alg: Literal["HS256"]
    typ: Literal["JWT"]
    kid: str


class AccessClaims(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an access token says."""

    typ: Literal["access"]
    iss: str
    aud: str
    sub: UUID
    sid: UUID
    jti: str
    iat: int
    exp: int
    role: Role
    guest: bool


class TicketClaims(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a socket ticket says: whose it is, where it may be used, and when what it opens must end."""

    typ: Literal["ticket"]
    iss: str
    aud: str
    sub: UUID
    sid: UUID
    jti: str
    iat: int
    exp: int
    role: Role
    guest: bool
    origin: str | None
    conversation: UUID | None
    ends: int


class _SiteHeader(msgspec.Struct, forbid_unknown_fields=True):
    alg: Literal["HS256"]
    typ: Literal["JWT"] = "JWT"
    kid: str = ""


class SiteClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a site's server says of its user; libraries add claims of their own, which say nothing here."""

    sub: str
    exp: int | float
    iat: int | float = 0
    nbf: int | float = 0
    aud: str | list[str] | None = None
    name: str | None = None
    email: str | None = None


Claims = TypeVar("Claims", AccessClaims, TicketClaims)
Header = TypeVar("Header", _Header, _SiteHeader)


class TokenCodec:
    """Signs with the first key, checks with any."""

    def __init__(self, secrets: Sequence[str], issuer: str, audience: str) -> None:
        if not secrets:
            raise ValueError("tokens need a secret")
        self._keys = {key_id(secret): secret for secret in secrets}
        self._signing_key = key_id(secrets[0])
        self._verified: dict[str, AccessClaims] = {}
        self.issuer = issuer
        self.audience = audience

    def encode(self, claims: AccessClaims | TicketClaims) -> str:
        """Return the signed token."""
        token: str = jws.sign(
            msgspec.json.encode(claims), self._keys[self._signing_key], {"kid": self._signing_key}, ALGORITHM
        )
        return token

    def decode(self, token: str, kind: type[Claims], now: float) -> Claims:
        """Return the claims of a valid token of this kind; raise TokenInvalid or TokenTooOld."""
        return self._holding(self._verify(token, kind), now)

    def decode_access(self, token: str, now: float) -> AccessClaims:
        """Do the same for an access token, which comes again and again: a signature that was good stays good."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verify(token, AccessClaims)
            if len(self._verified) >= MOST_VERIFIED:
                del self._verified[next(iter(self._verified))]
            self._verified[token] = claims
        return self._holding(claims, now)

    def _verify(self, token: str, kind: type[Claims]) -> Claims:
        if len(token) > MAX_TOKEN_CHARS or not _COMPACT.match(token):
            raise TokenInvalid
        key = self._keys.get(_key_id_of(token))
        if key is None:
            raise TokenInvalid
        try:
            return msgspec.json.decode(jws.verify(token, key, [ALGORITHM]), type=kind)
        except Exception:  # noqa: BLE001  # the library raises more than its own errors for hostile input
            raise TokenInvalid from None

    def _holding(self, claims: Claims, now: float) -> Claims:
        if claims.iss != self.issuer or claims.aud != self.audience or not claims.jti:
            raise TokenInvalid
        if claims.iat > now + CLOCK_SKEW_S or not 0 <= claims.exp - claims.iat <= MAX_LIFETIME_S:
            raise TokenInvalid
        if claims.exp <= now:
            raise TokenTooOld
        return claims


def decode_site_token(token: str, secret: str, audience: str, now: float) -> SiteClaims:
    """Return what the holder of a site's secret says; raise TokenInvalid or TokenTooOld.

    `exp` is required and at most a day away; `aud` may be absent, for the secret is one site's alone.
    """
    if len(token) > MAX_TOKEN_CHARS or not _COMPACT.match(token):
        raise TokenInvalid
    _read_header(token, _SiteHeader)
    try:
        claims = msgspec.json.decode(jws.verify(token, secret, [ALGORITHM]), type=SiteClaims)
    except Exception:  # noqa: BLE001  # the library raises more than its own errors for hostile input
        raise TokenInvalid from None
    named = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if not 0 < len(claims.sub) <= MAX_SUBJECT_CHARS or (named is not None and audience not in named):
        raise TokenInvalid
    if max(claims.iat, claims.nbf) > now + CLOCK_SKEW_S or claims.exp > now + MAX_LIFETIME_S + CLOCK_SKEW_S:
        raise TokenInvalid
    if claims.exp <= now:
        raise TokenTooOld
    return claims


def key_id(secret: str) -> str:
    """Return the name of a key, which tells nothing about it."""
    return hashlib.sha256(b"parley key id:" + secret.encode()).hexdigest()[:12]


def _key_id_of(token: str) -> str:
    return _read_header(token, _Header).kid


def _read_header(token: str, kind: type[Header]) -> Header:
    header = token.partition(".")[0]
    if len(header) > MAX_HEADER_CHARS:
        raise TokenInvalid
    try:
        return msgspec.json.decode(_base64url(header), type=kind)
    except ValueError:
        raise TokenInvalid from None


def _base64url(text: str) -> bytes:
    return binascii.a2b_base64(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))
