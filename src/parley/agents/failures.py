"""What people read when a reply fails: a sentence for each code, safe to show. Names no key and no provider."""

from collections.abc import Sequence

from parley.agents.clients import port
from parley.agents.interface import Attempt, Failed
from parley.agents.loop import EMPTY

AGENT_UNKNOWN = "agent_unknown"
AGENT_FAILED = "agent_failed"
BUDGET = "budget_exceeded"

_AWAY = "The assistant cannot be reached right now."
_LATE = "The assistant took too long to answer."
_CUT = "The assistant was cut off."
_SENTENCES = {
    port.UNREACHABLE: _AWAY,
    port.CONNECT_TIMEOUT: _AWAY,
    port.AUTH: "The assistant is not set up correctly: its provider refused the key.",
    port.REFUSED: "The assistant is not set up correctly: its provider refused the request.",
    port.BUSY: "The assistant is too busy right now.",
    port.FIRST_TOKEN_TIMEOUT: _LATE,
    port.SILENT: _CUT,
    port.TOO_LONG: _LATE,
    port.TRUNCATED: _CUT,
    EMPTY: "The assistant had nothing to say.",
    AGENT_UNKNOWN: "There is no such assistant.",
}


def describe_failure(code: str) -> str:
    """Return the sentence for a code; those without one of their own are faults nobody outside can tell apart."""
    return _SENTENCES.get(code, "The assistant failed.")


def fail(code: str, *, is_retryable: bool = False, attempts: Sequence[Attempt] = ()) -> Failed:
    """Return how a reply ends that cannot go on."""
    return Failed(code, describe_failure(code), is_retryable, tuple(attempts))
