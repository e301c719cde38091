"""Whether this worker may be sent requests: local state only, never a store that is away.

A store that is away is away for every worker: taking them all out of the load balancer would make degraded into down.
"""

import asyncio


class Readiness:
    """Named reasons why this worker is not ready; it is ready while there are none."""

    def __init__(self, *reasons: str) -> None:
        self._reasons = set(reasons)
        self._changed = asyncio.Event()

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(sorted(self._reasons))

    def block(self, reason: str) -> None:
        self._reasons.add(reason)

    def clear(self, reason: str) -> None:
        self._reasons.discard(reason)
        self._changed.set()

    async def wait(self) -> None:
        """Return once nothing is in the way."""
        while self._reasons:
            self._changed.clear()
            await self._changed.wait()
