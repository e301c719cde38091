"""The shapes every package's schemas are made of: strict input, storable text, the error body, the page."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, Strict

T = TypeVar("T")

# What PostgreSQL's text and JSON in UTF-8 cannot hold.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Return the text unchanged, or raise ValueError for what can neither be stored nor sent."""
    if _UNSTORABLE.search(text):
        raise ValueError("must not contain NUL or unpaired surrogates")
    return text


def one_line(text: str) -> str:
    """Return the text trimmed and in one Unicode form, or raise ValueError for what is not one line."""
    text = unicodedata.normalize("NFC", storable(text)).strip()
    if any(unicodedata.category(char) in {"Cc", "Zl", "Zp"} for char in text):
        raise ValueError("must be one line without control characters")
    return text


def _milliseconds(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Text = Annotated[str, AfterValidator(storable)]
Line = Annotated[str, AfterValidator(one_line)]
# Ids come as text, which strict models refuse for anything but strings.
Id = Annotated[UUID, Strict(strict=False)]
Moment = Annotated[datetime, PlainSerializer(_milliseconds, return_type=str)]


class Schema(BaseModel):
    """What we send: frozen."""

    model_config = ConfigDict(frozen=True)


class Command(BaseModel):
    """What we are sent: nothing unknown, nothing converted, nothing infinite."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class ErrorDetail(Schema):
    """The part that OpenAI's clients read too."""

    code: str
    message: str
    retryable: bool
    param: str | None = None


class FieldError(Schema):
    """One field that is wrong; never its value."""

    loc: list[str | int]
    code: str
    message: str


class ErrorBody(Schema):
    """The one shape of every failure (RFC 9457 and an `error` member)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    trace_id: str | None = None
    """Where the request is traced."""
    error: ErrorDetail
    errors: list[FieldError] | None = None


class Page(Schema, Generic[T]):
    """A stretch of a list, by keyset: ask on with `after=last_id`."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: UUID | None
    last_id: UUID | None
    has_more: bool
