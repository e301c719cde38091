"""Whether this worker may be sent requests, and how its components are.

Readiness is local state only: a store that is away is away for every worker, and taking them all out of the load
balancer would make degraded into down.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import structlog

from parley.core.clock import Clock

log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable["Finding"]]


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


@dataclass(frozen=True, slots=True)
class Finding:
    """What a component's check found."""

    status: Literal["ok", "degraded", "down"]
    detail: str = ""
    latency_ms: float | None = None
    checked_at: float = 0.0


class Health:
    """The components' checks, each with a deadline, remembered for a while and never run twice at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._components: dict[str, _Component] = {}

    def register(self, name: str, check: Check, *, is_required: bool, deadline_s: float, keep_s: float) -> None:
        """Add a component; a required one that is down makes the whole service down."""
        self._components[name] = _Component(check, is_required, deadline_s, keep_s)

    async def report(self) -> tuple[Literal["ok", "degraded", "down"], dict[str, Finding]]:
        """Return the overall status and every finding, asking only what has grown stale."""
        names = list(self._components)
        found = dict(zip(names, await asyncio.gather(*(self._find(self._components[n]) for n in names)), strict=True))
        if any(f.status == "down" and self._components[name].is_required for name, f in found.items()):
            return "down", found
        return ("ok" if all(f.status == "ok" for f in found.values()) else "degraded"), found

    async def _find(self, component: "_Component") -> Finding:
        async with component.lock:  # whoever comes meanwhile waits for the same answer
            now = self._clock.monotonic()
            last = component.last
            if last is None or now - last.checked_at >= component.keep_s:
                component.last = last = await self._check(component, now)
            return last

    async def _check(self, component: "_Component", now: float) -> Finding:
        try:
            async with asyncio.timeout(component.deadline_s):
                finding = await component.check()
        except TimeoutError:
            finding = Finding("down", f"no answer within {component.deadline_s:g} s")
        except Exception as error:  # a check may fail in any way its component can
            log.warning("health_check_failed", exc_info=error)
            finding = Finding("down", type(error).__name__)
        elapsed_ms = round((self._clock.monotonic() - now) * 1000, 1)
        return replace(finding, latency_ms=elapsed_ms, checked_at=self._clock.monotonic())


@dataclass(slots=True)
class _Component:
    check: Check
    is_required: bool
    deadline_s: float
    keep_s: float
    last: Finding | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
