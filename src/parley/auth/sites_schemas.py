"""What admins are told of sites, and what they may set."""

import re
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from parley.auth.schemas import NAME_CHARS, display_name
from parley.core.schemas import Command, Moment, Schema
from parley.core.settings import as_origin

MAX_ORIGINS = 32
ORIGIN_CHARS = 255
# What nobody can write anything else into: it is printed into pages and policies.
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/?\Z")
_NO_ORIGIN = "must look like https://shop.example or http://localhost:3000"


def page_origin(text: str) -> str:
    """Return a web origin as browsers send it; they write foreign names in ASCII (xn--...)."""
    if not _ORIGIN.match(text):
        raise ValueError(_NO_ORIGIN)
    try:
        return as_origin(text)
    except ValueError:
        raise ValueError(_NO_ORIGIN) from None


PageOrigin = Annotated[
    str, Field(max_length=ORIGIN_CHARS, examples=["https://shop.example"]), AfterValidator(page_origin)
]
PageOrigins = Annotated[list[PageOrigin], Field(max_length=MAX_ORIGINS)]
SiteName = Annotated[str, Field(min_length=1, max_length=NAME_CHARS, examples=["Shop"]), AfterValidator(display_name)]


class CreateSiteCommand(Command):
    """A web site that shall carry the widget, and where its pages are."""

    name: SiteName
    origins: PageOrigins = Field(default_factory=list)


class PatchSiteCommand(Command):
    """What shall change of a site; what is absent stays."""

    name: SiteName | None = None
    origins: PageOrigins | None = None
    disabled: bool | None = None


class SiteView(Schema):
    """A site; its secret is shown when it is made, and never again."""

    id: UUID
    name: str
    key: str
    origins: list[str]
    is_disabled: bool
    created_at: Moment


class SiteWithSecretView(SiteView):
    """A site with its new secret, which its server signs identities with: keep it there, it is not shown again."""

    secret: str
