"""How many calls a provider has at a time, all workers together: a lease for each call, in order of arrival.

Redis counts; the leases of a dead worker end by themselves. While Redis is away each worker keeps to its share.
Knows nothing of what the calls are for.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import structlog

from parley.agents.clients.port import BUSY, ModelError
from parley.agents.scripts import Scripts, SharedAway, tagged
from parley.agents.settings import AgentsSettings
from parley.core.clock import Clock
from parley.core.ids import new_id
from parley.core.tasks import Tasks

log = structlog.get_logger(__name__)

# How soon a place freed by another worker is noticed: each worker's first in line asks 5 to 10 times a second.
LOOK_AGAIN_S = 0.2
RENEWALS = 3  # in the life of a lease: two may fail


class QueueFull(ModelError):
    """No place at this provider in time. Nothing was sent to it."""

    def __init__(self, detail: str) -> None:
        super().__init__(BUSY, is_retryable=True, detail=detail)


@dataclass(slots=True)
class _Pool:
    """This worker's side of a provider."""

    held: set[str] = field(default_factory=set)
    waiting: int = 0
    asking: int = 0  # without standing in line
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # first come, first served
    freed: asyncio.Event = field(default_factory=asyncio.Event)


class Leases:
    """Places at the providers."""

    def __init__(
        self, scripts: Scripts, tasks: Tasks, settings: AgentsSettings, clock: Clock, random: Callable[[], float]
    ) -> None:
        self._step = scripts.load(__package__, "leases")
        self._tasks = tasks
        self._clock = clock
        self._random = random
        self._limit = settings.concurrency
        self._share = settings.alone_share
        self._queue_size = settings.queue_size
        self._queue_s = settings.queue_s
        self._lease_s = settings.lease_s
        self._pools: dict[str, _Pool] = {}

    @asynccontextmanager
    async def hold(self, provider: str, *, limit: int | None = None) -> AsyncIterator[None]:
        """Wait for a place and keep it for the block; raise QueueFull when none comes free in time."""
        pool, lease = self._pools.setdefault(provider, _Pool()), new_id().hex
        try:
            await self._wait(provider, pool, lease, limit or self._limit)
            yield
        finally:
            pool.held.discard(lease)
            # Not awaited: a cancelled call ends now, and a Redis that hangs delays nobody.
            self._tasks.spawn("release lease", self._release(provider, pool, lease))

    def held(self, provider: str) -> int:
        """Return how many calls this worker has at a provider."""
        return len(self._pools[provider].held) if provider in self._pools else 0

    def waiting(self, provider: str) -> int:
        """Return how many calls of this worker wait for a place."""
        return self._pools[provider].waiting if provider in self._pools else 0

    async def renew(self) -> None:
        """Renew what this worker holds, again and again; to be kept running beside the calls."""
        while True:
            for provider, pool in list(self._pools.items()):
                if pool.held:
                    with suppress(SharedAway):
                        await self._run("renew", provider, 0, *pool.held)
            await self._clock.sleep(self._lease_s / RENEWALS)

    async def _wait(self, provider: str, pool: _Pool, lease: str, limit: int) -> None:
        if not pool.waiting and len(pool.held) + pool.asking < limit // 2:
            # Nobody stands in line, and far from the end of the places none will: a burst asks all at once.
            pool.asking += 1
            try:
                if await self._take(provider, pool, lease, limit):
                    return
            finally:
                pool.asking -= 1
        if pool.waiting >= self._queue_size:
            raise QueueFull("queue_full")
        pool.waiting += 1
        try:
            async with asyncio.timeout(self._queue_s), pool.turn:
                pool.freed.clear()
                while not await self._take(provider, pool, lease, limit):
                    pause_s = LOOK_AGAIN_S * (1 + self._random()) / 2  # workers do not ask in step
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause_s):
                            await pool.freed.wait()
                    pool.freed.clear()
        except TimeoutError:
            raise QueueFull("queue_timeout") from None
        finally:
            pool.waiting -= 1

    async def _take(self, provider: str, pool: _Pool, lease: str, limit: int) -> bool:
        try:
            is_mine = bool(await self._run("take", provider, limit, lease))
        except SharedAway:
            is_mine = len(pool.held) < max(1, math.floor(limit * self._share))
        if is_mine:
            pool.held.add(lease)
        return is_mine

    async def _release(self, provider: str, pool: _Pool, lease: str) -> None:
        with suppress(SharedAway):  # then it ends by itself
            await self._run("release", provider, 0, lease)
        pool.freed.set()

    async def _run(self, operation: str, provider: str, limit: int, *leases: str) -> int:
        lasts_ms = math.ceil(self._lease_s * 1000)
        return int(await self._step([f"{tagged('provider', provider)}:leases"], operation, lasts_ms, limit, *leases))
