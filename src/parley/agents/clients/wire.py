"""The chunks of a Chat Completions stream, as far as they matter here, and their fast decoding. Pure."""

import json
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

# No answer has a thousand million tokens; a count beyond that would only spoil the books.
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
# As many parallel calls as providers allow.
CallIndex = Annotated[int, msgspec.Meta(ge=0, le=127)]


class FunctionPart(msgspec.Struct, gc=False):
    """A piece of a function call."""

    name: str | None = None
    arguments: str | None = None


class CallPart(msgspec.Struct, gc=False):
    """A piece of a tool call; some providers leave the index out."""

    index: CallIndex | None = None
    id: str | None = None
    function: FunctionPart | None = None


class Delta(msgspec.Struct, gc=False):
    """What is new. Thoughts have two names in the wild; that they come is all that is asked of them."""

    content: str | None = None
    refusal: str | None = None
    tool_calls: list[CallPart] | None = None
    reasoning: Any = None
    reasoning_content: Any = None


class Choice(msgspec.Struct, gc=False):
    """The one answer; nobody asks for more."""

    delta: Delta | None = None
    finish_reason: str | None = None
    index: int = 0


class PromptDetails(msgspec.Struct, gc=False):
    """How much of the prompt the provider knew already."""

    cached_tokens: Count | None = None


class Tokens(msgspec.Struct, gc=False):
    """The provider's count."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: PromptDetails | None = None


class Chunk(msgspec.Struct, gc=False):
    """One event of the stream."""

    id: str | None = None
    object: str | None = None
    choices: list[Choice] | UnsetType | None = UNSET
    usage: Tokens | None = None
    error: Any = None
    # Some servers send an error as the event itself.
    message: Any = None
    code: Any = None


class _Named(msgspec.Struct, gc=False):
    model: str = ""


_decoder = msgspec.json.Decoder(Chunk)
_name_decoder = msgspec.json.Decoder(_Named)


class NotAChunk(Exception):
    """The data of an event is no JSON, no UTF-8, or has a shape that is none."""


def decode(payload: bytes) -> Chunk:
    """Return the chunk in an event's data, or raise NotAChunk."""
    try:
        return _decoder.decode(payload)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise NotAChunk(str(error)) from error
    except msgspec.DecodeError as error:
        if rb"\u" not in payload:
            raise NotAChunk(str(error)) from error
    return _decode_with_halves(payload)


def decode_model(payload: bytes) -> str:
    """Return what model a chunk says it comes from; apart, as one look at an answer is enough."""
    try:
        return _name_decoder.decode(payload).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _decode_with_halves(payload: bytes) -> Chunk:
    """Half a surrogate pair is good JSON, and what a provider sends that cuts a character in two."""
    try:
        return msgspec.convert(json.loads(payload.decode()), Chunk)
    except (ValueError, RecursionError) as error:
        raise NotAChunk(str(error)) from error
