"""Moving windows in this worker's memory: who came how often within the last seconds. Pure, and bounded by who came."""

from collections import deque

FORGET_AT_ONCE = 2  # of those whose window is over; more than one a visit, so that they do not pile up


class Windows:
    """The visits of a while, by bucket."""

    def __init__(self) -> None:
        self._visits: dict[float, dict[str, deque[float]]] = {}
        """By the length of the window, then by bucket: the one that was visited last comes last."""

    def __len__(self) -> int:
        return sum(map(len, self._visits.values()))

    def hit(self, bucket: str, most: int, within_s: float, now: float) -> tuple[bool, float]:
        """Count a visit unless there were `most` within the time; return whether it counts, and when one may again."""
        buckets = self._visits.setdefault(within_s, {})
        visits = buckets.pop(bucket, None) or deque()
        while visits and visits[0] <= now - within_s:
            visits.popleft()
        is_allowed = len(visits) < most
        if is_allowed:
            visits.append(now)
        buckets[bucket] = visits
        self._forget(buckets, now - within_s)
        return is_allowed, visits[0] + within_s if visits else now + within_s

    def take_back(self, bucket: str, within_s: float) -> None:
        """Forget the last visit."""
        if visits := self._visits.get(within_s, {}).get(bucket):
            visits.pop()

    def _forget(self, buckets: dict[str, deque[float]], before: float) -> None:
        for _ in range(FORGET_AT_ONCE):
            oldest = next(iter(buckets))
            visits = buckets[oldest]
            if visits and visits[-1] > before:
                return
            del buckets[oldest]
            if not buckets:
                return
