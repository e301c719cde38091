"""What a client knows of a conversation, and where it would read on: the state, its cursor, and when to come back."""

import asyncio
import random

from parley.client.comeback import Comeback, Interrupted
from parley.client.credentials import Credentials
from parley.client.errors import ConnectionLost, ContentMismatch, Refused
from parley.client.events import RECONNECTING, Event
from parley.client.state import State, fold


class Following:
    """One stream's memory over all its connections."""

    def __init__(self, credentials: Credentials, *, patience_s: float | None, cursor: str | None = None) -> None:
        self.state = State()
        self.cursor = cursor
        self.credentials = credentials
        self._patience_s = patience_s
        self._comeback = Comeback()
        self._torn: set[str] = set()
        self._opened_at = self._heard_at = asyncio.get_running_loop().time()

    def take(self, event: Event) -> None:
        """Fold an event; raises Interrupted where a reply is torn: the next connection begins anew and heals it."""
        self._heard_at = asyncio.get_running_loop().time()
        try:
            self.state = fold(self.state, event.data)
        except ContentMismatch as mismatch:
            if mismatch.message_id in self._torn:
                raise
            self._torn.add(mismatch.message_id)
            # A cursor is worth something only together with what was folded up to it.
            self.state, self.cursor = State(), None
            raise Interrupted("come_back", mismatch.code, mismatch.message) from None
        self.cursor = event.cursor or self.cursor

    def open(self) -> None:
        """Note that a connection is being opened."""
        self._opened_at = asyncio.get_running_loop().time()

    def come_back(self, ended: Interrupted) -> Event:
        """Return what to tell about the wait before the next connection; raises where there shall be none."""
        now = asyncio.get_running_loop().time()
        if ended.move == "renew":
            if not self.credentials.can_renew:
                raise Refused(ended.code, ended.message) from ended
            self.credentials.renew()
        wait_s = self._comeback.wait_s(ended, now - self._opened_at, random.random())  # noqa: S311  # spreads, guards nothing
        if wait_s is None:
            raise Refused(ended.code, ended.message) from ended
        if self._patience_s is not None and now + wait_s - self._heard_at > self._patience_s:
            raise ConnectionLost(ended.code, ended.message, is_retryable=True) from ended
        return Event(RECONNECTING, {"type": RECONNECTING, "in_s": wait_s, "reason": ended.code})
