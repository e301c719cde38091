"""The watch over other workers' counters: who has stood still for so long that it is dead. Pure: time is handed in.

No clocks are compared: only this worker's own polls count, and one that was missed starts the watch anew.
"""

from collections.abc import Mapping
from uuid import UUID

STILL_S = 2.5  # a beat comes every half second: five in a row are missing
ANSWER_S = 1.0  # a poll that took longer says nothing about when the counter was read
APART_S = 1.5  # nor do polls between which this worker itself may have stood still

Dead = Mapping[UUID, int | None]
"""Workers that stand still, and the counter each stands at; None where it has none."""


class Watch:
    """What this worker has seen of the others."""

    def __init__(self) -> None:
        self._seen: dict[UUID, tuple[int | None, float]] = {}
        self._last_at: float | None = None

    def missed(self) -> None:
        """A poll failed: nothing that was seen before counts any more."""
        self._seen.clear()
        self._last_at = None

    def poll(self, counters: Mapping[UUID, int | None], asked_at: float, answered_at: float) -> Dead:
        """Take what a poll brought; return whose counter stood still through an unbroken watch, and at what."""
        is_broken = answered_at - asked_at > ANSWER_S or (
            self._last_at is not None and answered_at - self._last_at > APART_S
        )
        if is_broken:
            self._seen.clear()
        self._last_at = answered_at
        seen: dict[UUID, tuple[int | None, float]] = {}
        for boot_id, counter in counters.items():
            before = self._seen.get(boot_id)
            # Since when: the end of the first poll that saw it so, and up to the beginning of this one.
            seen[boot_id] = before if before is not None and before[0] == counter else (counter, answered_at)
        self._seen = seen
        return {boot_id: counter for boot_id, (counter, since) in seen.items() if asked_at - since >= STILL_S}
