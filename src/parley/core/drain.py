"""A worker's end in good order: who hears of it at once, and who is given time. Ends no process and no socket."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from parley.core.health import Readiness

log = structlog.get_logger(__name__)

DRAINING = "draining"


class Drain:
    """Begins once and never ends; whoever has something to finish registers here."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self._begun = asyncio.Event()
        self._told: list[Callable[[], None]] = []
        self._finishing: list[Callable[[], Awaitable[None]]] = []

    @property
    def is_draining(self) -> bool:
        return self._begun.is_set()

    @property
    def is_ready(self) -> bool:
        return not self._readiness.reasons

    async def wait(self) -> None:
        """Return once the drain has begun."""
        await self._begun.wait()

    def on_begin(self, callback: Callable[[], None]) -> None:
        """Call this when the drain begins, or now if it has begun."""
        self._told.append(callback)
        if self.is_draining:
            self._tell(callback)

    def finish(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run this, side by side with the others, within the time a drain is given; then it is cancelled."""
        self._finishing.append(work)

    def begin(self) -> None:
        """Take no more work: not ready from now on, and everybody told. Once."""
        if self.is_draining:
            return
        self._begun.set()
        self._readiness.block(DRAINING)
        log.info("drain_began")
        for callback in self._told:
            self._tell(callback)

    async def complete(self, within_s: float) -> None:
        """Return when all that is to finish has finished, or the time is up."""
        await asyncio.gather(*(self._finish(work, within_s) for work in self._finishing))

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:  # one that fails must not keep the others from hearing of it
            log.exception("drain_callback_failed", callback=_name(callback))

    async def _finish(self, work: Callable[[], Awaitable[None]], within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await work()
        except TimeoutError:
            log.warning("drain_cut_short", work=_name(work), after_s=within_s)
        except Exception:  # nor may it cut short what the others still finish
            log.exception("drain_work_failed", work=_name(work))


def _name(hook: Callable[..., object]) -> str:
    return getattr(hook, "__qualname__", repr(hook))
