"""Serves the viewers of whatever has changed: once a turn of the loop, and so many at once."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice

from parley.chat.connection import Viewer
from parley.chat.watched import Watched

AT_ONCE = 256  # viewers served before others have their turn


class Delivery:
    """What is to be served in this turn."""

    def __init__(self) -> None:
        self._dirty: dict[Watched, None] = {}

    def touch(self, watched: Watched) -> None:
        """Serve its viewers once this turn of the loop is over, however often that is said in it."""
        watched.share_anew()
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._serve_dirty)
        self._dirty[watched] = None

    def _serve_dirty(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for watched in dirty:
            if len(watched.viewers) <= AT_ONCE:
                self._serve(tuple(watched.viewers))
            else:
                self._serve_some(iter(tuple(watched.viewers)))

    def _serve_some(self, viewers: Iterator[Viewer]) -> None:
        some = list(islice(viewers, AT_ONCE))
        self._serve(some)
        if len(some) == AT_ONCE:
            asyncio.get_running_loop().call_soon(self._serve_some, viewers)

    def _serve(self, viewers: Sequence[Viewer]) -> None:
        for viewer in viewers:
            viewer.push()
