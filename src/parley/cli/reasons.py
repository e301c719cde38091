"""Why a server could not be reached or would not answer, in our own words. Imports no driver and asks nothing.

What a driver or a server says is never repeated: it may hold a password or a key.
"""

import socket
import ssl
from collections.abc import Iterator

# PostgreSQL's states that are for a person to mend; longer prefixes first.
_STATES = (
    ("28", "refuses this user or password"),
    ("3D000", "has no database of that name"),
    ("42501", "does not give this user the rights it needs"),
    ("53300", "has no free connection"),
    ("55P03", "holds a lock that is needed here; try again in a moment"),
    ("57P03", "is starting or stopping"),
    ("57", "stopped the statement"),
    ("53", "has run out of memory, disk or connections"),
    ("08P01", "takes no deadlines of ours, as a pooler in transaction mode does: set PARLEY_DATABASE_POOLED=1"),
    ("26000", "forgets statements, as a pooler in transaction mode does: set PARLEY_DATABASE_POOLED=1"),
    ("08", "broke the connection"),
    ("25006", "is read-only"),
)
_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "its host name is not known"),
    (ConnectionRefusedError, "nobody listens there"),
    (ConnectionResetError, "it broke the connection"),
    (FileNotFoundError, "there is no such socket"),
    (PermissionError, "this user may not open it"),
    (ssl.SSLError, "TLS failed"),
    (TimeoutError, "no answer in time"),
)
# Drivers' own errors, by name: their packages need not be there.
_NAMES = {
    "redis.exceptions.AuthenticationError": "it refuses this user or password",
    "redis.exceptions.AuthorizationError": "it refuses this user or password",
    "redis.exceptions.NoPermissionError": "it does not give this user the rights it needs",
    "redis.exceptions.BusyLoadingError": "it is still reading its data",
    "redis.exceptions.TimeoutError": "no answer in time",
    "openai.AuthenticationError": "it refuses the key",
    "openai.PermissionDeniedError": "it does not give this key the rights it needs",
    "openai.RateLimitError": "it refuses for now: too many requests, or no credit left",
    "httpx.UnsupportedProtocol": "its URL must start with http:// or https://",
}


def find_reason(error: BaseException) -> str | None:
    """Return why, as far as the error or what caused it tells."""
    causes = list(_causes(error))
    for cause in causes:
        state = getattr(cause, "sqlstate", None)
        for prefix, words in _STATES:
            if isinstance(state, str) and state.startswith(prefix):
                return words
        for name in _names(cause):
            if name in _NAMES:
                return _NAMES[name]
    # From the outside in, the first that is known: but a driver's own time-out may wrap a plain refusal.
    for kind, words in _KINDS:
        if any(isinstance(cause, kind) for cause in causes):
            return words
    return next((c.strerror.lower() for c in causes if isinstance(c, OSError) and c.strerror), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [getattr(cause, "orig", None), cause.__cause__, cause.__context__]


def _names(error: BaseException) -> Iterator[str]:
    for kind in type(error).__mro__:
        yield f"{kind.__module__}.{kind.__qualname__}"
