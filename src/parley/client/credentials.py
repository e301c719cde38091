"""With what a client opens connections: a token, or tickets."""

from collections.abc import Awaitable, Callable

TokenSource = Callable[[bool], Awaitable[str]]
"""Gives an access token; True says that the last one was refused, so another one is wanted."""
TicketSource = Callable[[], Awaitable[str]]
"""Gives a new ticket for one connection."""


class Credentials:
    """Headers and query of the next connection."""

    def __init__(self, token: str | TokenSource | None, tickets: TicketSource | None) -> None:
        if token is not None and tickets is not None:
            raise ValueError("a token or tickets, not both")
        self._token = token
        self._tickets = tickets
        self._is_stale = False

    @property
    def can_renew(self) -> bool:
        """Whether a refused one can be replaced."""
        return not isinstance(self._token, str) and (self._token is not None or self._tickets is not None)

    def renew(self) -> None:
        """Note that the last one was refused."""
        self._is_stale = True

    async def headers(self) -> dict[str, str]:
        """Return what goes into the headers."""
        if self._token is None:
            return {}
        token = self._token if isinstance(self._token, str) else await self._token(self._is_stale)
        self._is_stale = False
        return {"Authorization": f"Bearer {token}"}

    async def query(self) -> dict[str, str]:
        """Return what goes into the query."""
        return {} if self._tickets is None else {"ticket": await self._tickets()}
