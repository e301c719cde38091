"""Whether this worker may be sent requests, and how its components are.

Readiness is local state only: a store that is away is away for every worker, and taking them all out of the load
balancer would make degraded into down. Nor is one that is slow: only what stays silent is down.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

import structlog

from parley.core.clock import Clock
from parley.core.tasks import Tasks

log = structlog.get_logger(__name__)

# What answered so lately is slow, not down: a check that is late once is no reason to send everybody away.
SILENT_S = 10.0
WAIT_S = 1.0  # what load balancers give a probe
GRACE_S = 0.05  # in which a check that is late may still say so itself
Status = Literal["ok", "degraded", "down"]
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

    status: Status
    detail: str = ""
    latency_ms: float | None = None
    checked_at: float = 0.0


class Health:
    """The components' checks, remembered for a while. Each runs beside the requests, once, whoever asks meanwhile."""

    def __init__(self, clock: Clock, tasks: Tasks) -> None:
        self._clock = clock
        self._tasks = tasks
        self._components: dict[str, _Component] = {}

    def register(self, name: str, check: Check, *, is_required: bool, deadline_s: float, keep_s: float) -> None:
        """Add a component; a required one that is down makes the whole service down."""
        self._components[name] = _Component(name, check, is_required, deadline_s, keep_s)

    async def report(self) -> tuple[Status, dict[str, Finding]]:
        """Return the overall status and every finding, asking only what has grown stale.

        Waits for no check longer than a caller would, be it one that cannot even be cancelled.
        """
        began = self._clock.monotonic()
        asking = [self._ask(component) for component in self._components.values() if self._is_stale(component)]
        until = max((min(c.deadline_s, WAIT_S) + c.asked_at for c in self._components.values()), default=began)
        if asking and until + GRACE_S > began:
            await asyncio.wait(asking, timeout=until - began + GRACE_S)
        found = {component.name: self._find(component) for component in self._components.values()}
        if any(finding.status == "down" and self._components[name].is_required for name, finding in found.items()):
            return "down", found
        return ("ok" if all(finding.status == "ok" for finding in found.values()) else "degraded"), found

    def _is_stale(self, component: "_Component") -> bool:
        last = component.last
        return last is None or self._clock.monotonic() - last.checked_at >= component.keep_s

    def _ask(self, component: "_Component") -> asyncio.Task[None]:
        """Return the one check that is under way; it belongs to nobody who waits for it."""
        if component.asking is None or component.asking.done():
            component.asked_at = self._clock.monotonic()
            component.asking = self._tasks.spawn(f"check {component.name}", self._check(component))
        return component.asking

    def _find(self, component: "_Component") -> Finding:
        late_at = component.asked_at + component.deadline_s
        is_late = self._is_stale(component) and self._clock.monotonic() >= late_at
        if component.last is None and not is_late:
            return Finding("degraded", "is being asked for the first time")
        return self._late(component) if is_late or component.last is None else component.last

    def _late(self, component: "_Component") -> Finding:
        now = self._clock.monotonic()
        if component.silent_since is None:
            component.silent_since = component.asked_at
        status: Status = "down" if now - component.silent_since >= SILENT_S else "degraded"
        waited_ms = round((now - component.asked_at) * 1000, 1)
        return Finding(status, f"no answer within {component.deadline_s:g} s", waited_ms, now)

    async def _check(self, component: "_Component") -> None:
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(component.deadline_s):
                finding = await component.check()
        except TimeoutError:
            component.last = self._late(component)
            return
        except Exception as error:  # a check may fail in any way its component can
            log.warning("health_check_failed", component=component.name, exc_info=error)
            finding = Finding("down", type(error).__name__)
        now = self._clock.monotonic()
        component.silent_since = None
        component.last = replace(finding, latency_ms=round((now - began) * 1000, 1), checked_at=now)


@dataclass(slots=True)
class _Component:
    name: str
    check: Check
    is_required: bool
    deadline_s: float
    keep_s: float
    last: Finding | None = None
    asking: asyncio.Task[None] | None = None
    asked_at: float = 0.0
    silent_since: float | None = None
    """When it was first asked without an answer; None once it has answered."""
