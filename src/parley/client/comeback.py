"""When to come back after a connection ended. Pure: time and chance are handed in."""

import re
from collections.abc import Mapping
from http import HTTPStatus

from parley.chat.protocol import Move, next_move

BASE_S = 0.5
CAP_S = 30.0
LATER_S = 5.0  # at least, where we did too much or something wrong
STEADY_S = 10.0  # a connection that held so long was a good one: the next wait is short again
LONGEST_S = 300.0  # whatever a Retry-After says
RENEWALS = 3  # fresh tokens refused in a row: it is not the token
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_DIGITS = re.compile(r"[0-9]{1,9}\Z")


class Interrupted(Exception):
    """A connection ended, or was not opened; `move` says what to do about it."""

    def __init__(
        self, move: Move, code: str, message: str, *, wait_s: float | None = None, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.move = move
        self.code = code
        self.message = message
        self.wait_s = wait_s
        """What the server asked for, already spread over its clients."""
        self.retry_after_s = retry_after_s


class Comeback:
    """How one stream has fared so far."""

    def __init__(self) -> None:
        self._attempt = 0
        self._renewals = 0

    def wait_s(self, ended: Interrupted, lasted_s: float, random: float) -> float | None:
        """Return how long to wait, None for stay away; `random` lies in [0, 1)."""
        if lasted_s >= STEADY_S:
            self._attempt = self._renewals = 0
        self._renewals = self._renewals + 1 if ended.move == "renew" else 0
        if ended.move == "stay_away" or self._renewals > RENEWALS:
            return None
        if ended.wait_s is not None:
            return ended.wait_s
        base_s = LATER_S if ended.move == "later" else BASE_S
        jittered_s = min(CAP_S, base_s * 2.0 ** min(self._attempt, 16)) * random
        self._attempt += 1
        return jittered_s + (LATER_S if ended.move == "later" else ended.retry_after_s)


def of_close(code: int, reason: str) -> Interrupted:
    """Return what the close of a WebSocket means."""
    return Interrupted(next_move(code), f"closed_{code}", reason or "The connection was closed.")


def of_status(status: int, headers: Mapping[str, str], code: str, message: str) -> Interrupted:
    """Return what a refusal over HTTP means."""
    move: Move = "stay_away"
    if status == HTTPStatus.UNAUTHORIZED:
        move = "renew"
    elif status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        move = "come_back"
    return Interrupted(move, code, message, retry_after_s=_seconds(headers.get("Retry-After", "")))


def _seconds(value: str) -> float:
    # A date is allowed there too; who sends one gets our own wait.
    return min(float(value), LONGEST_S) if _DIGITS.match(value) else 0.0
