"""When a call has taken too long, and what that is called. Pure: the time is handed in."""

from parley.agents.clients import port
from parley.agents.clients.port import ModelError

# An answer that is finished is only waited for to hear its usage.
TAIL_S = 2.0


class Deadlines:
    """First token, silence between tokens, whole answer: whichever is next."""

    def __init__(self, *, first_token_s: float, silence_s: float, total_s: float, now: float) -> None:
        self._silence_s = silence_s
        self._end = now + total_s
        self._due = now + first_token_s
        self._code = port.FIRST_TOKEN_TIMEOUT

    def left_s(self, now: float) -> float:
        """Return the seconds until the next deadline."""
        return min(self._due, self._end) - now

    def hear(self, now: float) -> None:
        """Something of substance came."""
        self._due = now + self._silence_s
        self._code = port.SILENT

    def come_back(self, now: float) -> None:
        """Whoever reads was away: its own time is no silence of the model's."""
        if self._code == port.SILENT:
            self._due = max(self._due, now + self._silence_s)

    def finish(self, now: float) -> None:
        """Nothing but the usage is awaited."""
        self._silence_s = 0.0
        self._due = min(self._due, now + TAIL_S)

    def failure(self) -> ModelError:
        """Return the error for the deadline that is next."""
        if self._end <= self._due:
            return ModelError(port.TOO_LONG)
        return ModelError(self._code, is_retryable=True)
