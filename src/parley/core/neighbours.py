"""The listening sockets of the other workers: what waits there for a worker that is dead, starts or hangs is taken.

Whether and when to look is its caller's decision. Where all workers share one socket there is nothing to look at.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from socket import socket

import structlog

log = structlog.get_logger(__name__)

AT_ONCE = 16  # between two of them the loop serves others, and other workers take theirs


class Neighbours:
    """Takes connections nobody has taken. A worker that is well takes its own at once, so there are hardly any."""

    def __init__(self, listeners: Sequence[socket] = ()) -> None:
        self._listeners = list(listeners)
        for listener in self._listeners:
            listener.setblocking(False)  # noqa: FBT003  # the standard library's way

    async def take(self, make: Callable[[], asyncio.Protocol]) -> None:
        """Serve all that waits on these sockets now."""
        loop = asyncio.get_running_loop()
        for listener in list(self._listeners):
            while found := list(islice(_waiting(listener), AT_ONCE)):
                served = (loop.connect_accepted_socket(make, connection) for connection in found)
                ended = await asyncio.gather(*served, return_exceptions=True)
                failed = [error for error in ended if isinstance(error, Exception)]
                log.debug("connections_taken_over", count=len(found), failed=len(failed))

    def close(self) -> None:
        """Leave them to whoever else holds them."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()


def _waiting(listener: socket) -> Iterator[socket]:
    while listener.fileno() >= 0:
        try:
            connection, _ = listener.accept()
        except OSError:  # nobody waits, who waited has left, or no number is free: the next look finds out
            return
        connection.setblocking(False)  # noqa: FBT003  # the standard library's way
        yield connection
