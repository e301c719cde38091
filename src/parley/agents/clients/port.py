"""The seam to a model: a request in, a stream of events out, every failure by its name.

Guarantees of whatever stands behind it: events come in the order of the wire; text is storable (no NUL, no lone
surrogate); the stream ends with exactly one `Finish`, or raises one `ModelError`; leaving the block, also by
cancellation, closes the provider's connection. Nothing is retried here.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call, in the words of Chat Completions."""

    model: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    prompt_tokens: int | None = None
    """Estimated, where whoever made it has counted."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The answer grows."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A tool call grows: id and name come with its first piece, arguments are JSON in pieces."""

    index: int
    call_id: str | None
    name: str | None
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finish:
    """The call is complete; usage is None where the provider tells none."""

    reason: FinishReason
    usage: Usage | None = None
    answer_id: str = field(default="", compare=False)
    """The provider's name of it, and below, of what really answered; for traces."""
    answered_by: str = field(default="", compare=False)


ModelEvent = TextDelta | ToolCallDelta | Finish


class ModelError(Exception):
    """A call failed. `code` is stable and safe to show; what the provider said is for the log only."""

    def __init__(
        self,
        code: str,
        *,
        is_retryable: bool = False,
        retry_after_s: float | None = None,
        status: int | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(code)
        self.code = code
        self.is_retryable = is_retryable
        """Whether the same call may succeed a moment later, as long as nothing was shown."""
        self.retry_after_s = retry_after_s
        self.status = status
        self.detail = detail


class ModelClient(Protocol):
    """One provider."""

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[Sequence[ModelEvent]]]:
        """Open a call; iterate over batches, each what one read of the provider's socket brought."""
        ...


# The names of everything that can go wrong with a call.
UNREACHABLE = "model_unreachable"  # refused, reset, unknown host, TLS
CONNECT_TIMEOUT = "model_connect_timeout"
FIRST_TOKEN_TIMEOUT = "model_first_token_timeout"  # noqa: S105  # tokens of a model
SILENT = "model_silent"  # nothing of substance for too long between tokens; pings do not count
TOO_LONG = "model_deadline"  # the whole answer took too long
TRUNCATED = "model_truncated"  # ended without a finish reason
GARBLED = "model_garbled"  # not JSON, not UTF-8, a shape that is none, HTML with status 200
LINE_TOO_LONG = "model_line_too_long"
TOO_MUCH = "model_too_much"  # more bytes than any answer has
AUTH = "model_auth"  # 401, 403
BUSY = "model_busy"  # 429
REFUSED = "model_refused"  # any other 4xx: our request is wrong for this model
BROKEN = "model_broken"  # 5xx, an error event in the stream
REDIRECTED = "model_redirected"  # a key is never carried to another host
