"""How many sockets and streams this worker serves: in all, of one user, from one address."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from parley.chat.errors import Overloaded, TooManyConnections
from parley.chat.metrics import ChatMetrics
from parley.chat.settings import ChatSettings


class Seats:
    """The places of a worker."""

    def __init__(self, settings: ChatSettings, metrics: ChatMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._by_user: Counter[UUID] = Counter()
        self._by_address: Counter[str] = Counter()
        self.taken = 0

    @contextmanager
    def take(self, user_id: UUID, address: str) -> Iterator[None]:
        """Take a place until `leave`, or until the block fails; raise Overloaded or TooManyConnections without one."""
        self._check(user_id, address)
        self.taken += 1
        self._by_user[user_id] += 1
        self._by_address[address] += 1
        try:
            yield
        except BaseException:
            self.leave(user_id, address)
            raise

    def leave(self, user_id: UUID, address: str) -> None:
        """Give a place back."""
        self.taken -= 1
        _less(self._by_user, user_id)
        _less(self._by_address, address)

    def _check(self, user_id: UUID, address: str) -> None:
        settings = self._settings
        if self.taken >= settings.sockets:
            self._metrics.admission_refused.labels("sockets").inc()
            raise Overloaded
        for limit, taken, most in (
            ("sockets_per_user", self._by_user[user_id], settings.sockets_per_user),
            ("sockets_per_address", self._by_address[address], settings.sockets_per_address),
        ):
            if taken >= most:
                self._metrics.limits_hit.labels(limit).inc()
                raise TooManyConnections


def _less(counter: Counter[Any], key: Any) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
