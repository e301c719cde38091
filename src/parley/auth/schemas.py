"""What accounts are asked and answer."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from parley.auth.passwords import acceptable
from parley.auth.tokens import MAX_TOKEN_CHARS, Role
from parley.core.schemas import Command, Id, Moment, Schema, Text, one_line, storable

EMAIL_CHARS = 254  # RFC 5321's limit of a path
NAME_CHARS = 100
_EMAIL = re.compile(r"[^@]+@[^@.]+(\.[^@.]+)+\Z")
_LOCAL_SIGNS = set("!#$%&'*+-/=?^_`{|}~.")
_DOMAIN_SIGNS = set("-.")
# Marks that change nothing a person can see: with them, many accounts would look like one.
_INVISIBLE_MARKS = re.compile("[\u034f\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def normal_email(text: str) -> str:
    """Return the one form of an e-mail address, so that look-alikes of one address are one account."""
    # Folded and normalised twice, as Unicode says: once is not always the end of it.
    normal = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", storable(text)).strip().casefold())
    normal = unicodedata.normalize("NFKC", normal.casefold())
    local, _, domain = normal.partition("@")
    is_address = len(normal) <= EMAIL_CHARS and _EMAIL.match(normal) and not _INVISIBLE_MARKS.search(normal)
    if not is_address or not (_is_written(local, _LOCAL_SIGNS) and _is_written(domain, _DOMAIN_SIGNS)):
        raise ValueError("must be an e-mail address")
    return normal


def _is_written(text: str, signs: set[str]) -> bool:
    """Whether the text is letters, digits, their marks, and these signs: nothing invisible, nothing that turns it."""
    return all(char in signs or unicodedata.category(char)[0] in "LNM" for char in text)


def display_name(text: str) -> str:
    """Return a name in one line, still short enough in its normal form."""
    name = one_line(text)
    if len(name) > NAME_CHARS:
        raise ValueError(f"must have at most {NAME_CHARS} characters")
    return name


# The length comes first: what follows costs time for each character.
Email = Annotated[str, Field(max_length=EMAIL_CHARS), AfterValidator(normal_email)]
NewPassword = Annotated[str, Field(max_length=256), AfterValidator(acceptable)]
GivenPassword = Annotated[str, Field(max_length=256), AfterValidator(storable)]
Name = Annotated[str, Field(max_length=NAME_CHARS), AfterValidator(display_name)]
SiteKey = Annotated[Text, Field(max_length=64, examples=["pk_0123456789abcdefghijkl"])]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who stands behind a request, as its token or ticket says."""

    user_id: UUID
    session_id: UUID
    role: Role
    is_guest: bool
    expires_at: int
    """When what this opened must end, in seconds since the epoch."""

    @property
    def limit_key(self) -> str:
        """What limits count by."""
        return f"user:{self.user_id}"


class RegisterCommand(Command):
    """A new account; sent with a guest's token, the guest becomes it."""

    email: Email = Field(examples=["ada@shop.example"])
    password: NewPassword = Field(examples=["correct horse battery"])
    name: Name = Field("", examples=["Ada"])


class LoginForm(Command):
    """OAuth2's password form; `username` is the e-mail address."""

    grant_type: Literal["password"] = "password"
    username: Annotated[Text, Field(max_length=254)]
    password: GivenPassword
    scope: Annotated[Text, Field(max_length=256)] = ""
    client_id: Annotated[Text, Field(max_length=256)] | None = None
    client_secret: Annotated[Text, Field(max_length=256)] | None = None


class RefreshCommand(Command):
    """A refresh token, to be exchanged for new ones."""

    refresh_token: Annotated[Text, Field(min_length=1, max_length=256)]


class ChangePasswordCommand(Command):
    """The password that is, and the one that shall be."""

    current_password: GivenPassword
    new_password: NewPassword


class GuestCommand(Command):
    """A visitor of a web page; with a site's key, of one of that site's pages."""

    site_key: SiteKey | None = None
    name: Name = Field("", examples=["Visitor"])


class IdentityCommand(Command):
    """A user of a site, in the words of its server: a JWT (HS256) signed with the site's secret."""

    site_key: SiteKey
    token: Annotated[Text, Field(min_length=1, max_length=MAX_TOKEN_CHARS)]


class TicketCommand(Command):
    """The conversation a ticket shall open; without one it opens any of the caller's."""

    conversation_id: Id | None = None


class UserView(Schema):
    """An account."""

    id: UUID
    email: str | None
    contact_email: str | None
    """What the server of a site says; not proven."""
    name: str
    role: Role
    is_guest: bool
    is_disabled: bool
    created_at: Moment


class TokenView(Schema):
    """A pair of tokens, as OAuth2 clients expect it."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  # the name of a scheme
    expires_in: int
    user: UserView


class TicketView(Schema):
    """A ticket for one socket or stream."""

    ticket: str
    expires_in: int
