"""What the tests of shared state need: settings in a few words, a worker's parts on a Redis, a Redis that is away."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from tests.fixtures.guards import LoopGuard

from parley.agents.clients.breaker import Breaker
from parley.agents.clients.fallback import Fallback
from parley.agents.clients.leases import Leases
from parley.agents.scripts import Scripts
from parley.agents.settings import AgentsSettings
from parley.core.clock import SystemClock
from parley.core.line import Line
from parley.core.redis import open_redis
from parley.core.settings import RedisSettings
from parley.core.tasks import Tasks

NOWHERE = "redis://127.0.0.1:1"


def settings_of(**values: Any) -> AgentsSettings:
    """Return settings, the usual ones but for `values`."""
    return AgentsSettings.model_validate(values)


@dataclass
class Worker:
    """One worker's parts."""

    scripts: Scripts
    tasks: Tasks
    breaker: Breaker
    leases: Leases
    fallback: Fallback
    settings: AgentsSettings


@asynccontextmanager
async def open_worker(redis_url: str, guard: LoopGuard, **values: Any) -> AsyncIterator[Worker]:
    """Open a worker's parts on a Redis; reading the scripts belongs to the start of a process."""
    settings, clock, tasks = settings_of(**values), SystemClock(), Tasks()
    redis = open_redis(RedisSettings.model_validate({"url": SecretStr(redis_url)}))
    line = Line(redis)
    with guard.paused():
        scripts = Scripts(line, clock, settings.shared_deadline_s)
        breaker = Breaker(scripts, settings, clock)
        leases = Leases(scripts, tasks, settings, clock, random.random)
        fallback = Fallback(
            breaker=breaker, leases=leases, tasks=tasks, settings=settings, clock=clock, random=random.random
        )
    try:
        yield Worker(scripts, tasks, breaker, leases, fallback, settings)
    finally:
        await tasks.close(1.0)
        await line.close()
        await redis.aclose()
