"""When a worker has done enough: so many requests, or so much memory. Who replaces it is its parent's business."""

from collections.abc import Callable

from parley.core.settings import ServerSettings

SPREAD = 0.2  # workers that began together do not end together
MIB = 1 << 20


class Wear:
    """The limits of one worker; `chance` lies in [0, 1)."""

    def __init__(self, settings: ServerSettings, chance: float) -> None:
        most = settings.max_requests
        self._max_requests = None if most is None else round(most * (1 + SPREAD * chance))
        self._max_rss_mb = settings.max_rss_mb
        self._has_been_below = False

    @property
    def is_bounded(self) -> bool:
        return self._max_requests is not None or self._max_rss_mb is not None

    def reason(self, requests: int, resident_bytes: Callable[[], int]) -> str | None:
        """Return what it has too much of, if anything.

        A limit of memory that it has been above from its start would end its successor as well, and is no reason.
        """
        if self._max_requests is not None and requests >= self._max_requests:
            return "requests"
        if self._max_rss_mb is None:
            return None
        if resident_bytes() < self._max_rss_mb * MIB:
            self._has_been_below = True
            return None
        return "memory" if self._has_been_below else None
