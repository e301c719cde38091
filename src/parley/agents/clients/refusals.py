"""What a status of the provider means: an error by its name, and when to come back. Pure."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import orjson

from parley.agents.clients import port
from parley.agents.clients.port import ModelError, ModelRequest
from parley.agents.clients.storable import storable

DETAIL_CHARS = 500  # for the log: enough for a sentence, not for a page
LEAST_CHARS, ECHO_CHARS = 8, 24  # of a message that is repeated; errors share shorter words with any prompt
# Request Timeout, Conflict (a lock at the provider), Too Early: the same call may succeed a moment later.
PASSING = frozenset({408, 409, 425})
# 429 also says that the account is empty; no waiting helps against that.
UNPAID = "insufficient_quota"


def refusal(status: int, *, detail: str = "", retry_after_s: float | None = None) -> ModelError:
    """Return the error for a status that is no success."""
    code, is_retryable = _meaning(status)
    return ModelError(
        code,
        is_retryable=is_retryable and UNPAID not in detail,
        retry_after_s=retry_after_s,
        status=status,
        detail=detail,
    )


def loggable(detail: str, secret: str, request: ModelRequest) -> str:
    """Return what a provider said, fit for the log: it may echo the key and what was asked, and say a lot."""
    detail = _unescaped(storable(detail))
    detail = (detail.replace(secret, "***") if secret else detail)[:DETAIL_CHARS]
    return "withheld: it repeats what was asked" if _repeats(detail, request) else detail


def _repeats(detail: str, request: ModelRequest) -> bool:
    """Whether it holds a short message whole, or a stretch of a long one."""
    asked = [text for message in request.messages if (text := str(message.get("content") or "").strip())]
    if any(len(text) >= LEAST_CHARS and text in detail for text in asked):
        return True
    # An echo of two lengths holds at least one of these stretches whole.
    starts = range(0, len(detail) - ECHO_CHARS + 1, ECHO_CHARS // 2)
    return any(detail[start : start + ECHO_CHARS] in text for start in starts for text in asked)


def _unescaped(detail: str) -> str:
    """Return JSON with its letters as they are; anything else as it is."""
    try:
        return orjson.dumps(orjson.loads(detail)).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return detail


def _meaning(status: int) -> tuple[str, bool]:
    if 300 <= status < 400:  # noqa: PLR2004  # the classes of HTTP
        return port.REDIRECTED, False
    if status in {401, 403}:
        return port.AUTH, False
    if status == 429:  # noqa: PLR2004  # Too Many Requests
        return port.BUSY, True
    if 400 <= status < 500:  # noqa: PLR2004  # the classes of HTTP
        return port.REFUSED, status in PASSING
    return port.BROKEN, True


def parse_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds the provider asks to wait; None when it says nothing that can be understood."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        said = headers.get(name)
        if said is None:
            continue
        try:
            wait_s = float(said) * unit_s
        except ValueError:
            continue
        if math.isfinite(wait_s) and wait_s >= 0:
            return wait_s
    return _until(headers.get("retry-after", ""), now)


def _until(date: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
