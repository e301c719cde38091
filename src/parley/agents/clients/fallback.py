"""An answer from the first model that gives one: repeats, fallback models, breaker and queue around a `ModelClient`.

Before the first token failures pass unseen; after it nothing is spliced: the answer restarts visibly on the next
model, or fails with the text so far. Every call is reported. Prices, budgets and tools are not known here.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Literal

from parley.agents.clients.attempts import AttemptReport, Call
from parley.agents.clients.breaker import Breaker, Permit
from parley.agents.clients.circuit import Verdict
from parley.agents.clients.leases import Leases, QueueFull
from parley.agents.clients.port import (
    BUSY,
    FIRST_TOKEN_TIMEOUT,
    REFUSED,
    TOO_LONG,
    TOO_MUCH,
    ModelClient,
    ModelError,
    ModelEvent,
    ModelRequest,
)
from parley.agents.clients.retries import RetryBucket
from parley.agents.settings import AgentsSettings
from parley.core.backoff import full_jitter
from parley.core.clock import Clock
from parley.core.tasks import Tasks

RETRY_BASE_S = 0.25  # the first repeat comes after 0 to 0.25 s, so a dead provider is told of within seconds
# What ends an answer for good: the time or the bytes of a whole answer are spent.
FINAL = frozenset({TOO_LONG, TOO_MUCH})
# The provider is well, our request is not.
SAYS_NOTHING_BAD = frozenset({REFUSED})
CANCELLED = "cancelled"

Report = Callable[[AttemptReport], None]
Told = Callable[[Literal["repeated", "fell_back"], str], None]
"""Hears that a model is asked again, or answers in the place of the first choice."""


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """One of the models that may answer."""

    provider: str
    """Its name: breaker, places and repeats are counted by it."""
    model: str
    client: ModelClient
    concurrency: int | None = None
    """Calls at a time over all workers; None: the setting."""


@dataclass(frozen=True, slots=True)
class Answering:
    """This model has begun: what follows is its answer."""

    provider: str
    model: str
    is_cached: bool = False


@dataclass(frozen=True, slots=True)
class Restarting:
    """Forget what this call brought so far: `Answering` of another model follows at once."""

    code: str


def tell_nobody(_: str, __: str) -> None:
    """Count nothing."""


AnswerItem = Answering | Restarting | Sequence[ModelEvent]


class _LeftAlone(ModelError):
    """The breaker is open."""


class Fallback:
    """Answers from an ordered list of models."""

    def __init__(
        self,
        *,
        breaker: Breaker,
        leases: Leases,
        tasks: Tasks,
        settings: AgentsSettings,
        clock: Clock,
        random: Callable[[], float],
        told: Told = tell_nobody,
    ) -> None:
        self._told = told
        self._breaker = breaker
        self._leases = leases
        self._tasks = tasks
        self._clock = clock
        self._random = random
        self._retries = settings.retries
        self._pause_max_s = settings.retry_pause_max_s
        self._deadline_s = settings.fallback_deadline_s
        self._restarts = settings.after_first_token == "restart"  # noqa: S105  # tokens of a model
        self._buckets: dict[str, RetryBucket] = {}

    @asynccontextmanager
    async def stream(
        self, routes: Sequence[ModelRoute], request: ModelRequest, report: Report
    ) -> AsyncIterator[AsyncIterator[AnswerItem]]:
        """Ask the models in order; iterate over what the first that answers says. Raises one ModelError.

        Leaving the block, also by cancellation, closes the provider's connection. `report` hears of every call.
        """
        async with aclosing(self._answer(routes, request, report)) as items:
            yield items

    async def _answer(
        self, routes: Sequence[ModelRoute], request: ModelRequest, report: Report
    ) -> AsyncGenerator[AnswerItem, None]:
        deadline = self._clock.monotonic() + self._deadline_s
        broken: ModelError | None = None  # ended an answer in the middle
        failed: ModelError | None = None
        for route in routes:
            repeats = 0
            pause_s: float | None = 0.0
            while pause_s is not None and (left_s := deadline - self._clock.monotonic()) > 0:
                has_begun = False
                try:
                    async with self._attempt(route, request, left_s, report) as call:
                        has_begun = True
                        if broken:
                            yield Restarting(broken.code)
                        if route is not routes[0]:
                            self._told("fell_back", route.model)
                        yield Answering(route.provider, route.model)
                        async for batch in call:
                            yield batch
                    return  # noqa: TRY300  # the answer is whole; what follows the loop is for failures
                except ModelError as error:
                    if has_begun:
                        if error.code in FINAL or not self._restarts:
                            raise
                        # The text so far stays on the screens until another model has really begun.
                        broken, deadline = error, self._clock.monotonic() + self._deadline_s
                        break
                    failed = _telling(failed, error)
                    pause_s = self._pause_s(route, error, repeats, deadline)
                if pause_s is not None:
                    repeats += 1
                    self._told("repeated", route.model)
                    await self._clock.sleep(pause_s)
        raise broken or failed or ModelError(FIRST_TOKEN_TIMEOUT, is_retryable=True)

    @asynccontextmanager
    async def _attempt(
        self, route: ModelRoute, request: ModelRequest, left_s: float, report: Report
    ) -> AsyncIterator[Call]:
        """Call one model once: entered with its first token."""
        permit = await self._breaker.ask(route.provider, route.model)
        if permit is None:
            wait_s = self._breaker.wait_s(route.provider, route.model)
            raise _LeftAlone(BUSY, is_retryable=True, retry_after_s=wait_s, detail="breaker_open")
        outcome = "crashed"
        verdict: Verdict = "dropped"
        fault: ModelError | None = None
        call: Call | None = None
        try:
            async with AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(left_s):
                        await stack.enter_async_context(self._leases.hold(route.provider, limit=route.concurrency))
                        call = Call(route.provider, route.model, self._clock)
                        stream = route.client.stream(replace(request, model=route.model))
                        await call.begin(await stack.enter_async_context(stream))
                except TimeoutError:
                    raise ModelError(FIRST_TOKEN_TIMEOUT, is_retryable=True, detail="fallback_deadline") from None
                permit = await self._end_probe(permit)
                yield call
            outcome = verdict = "ok"
        except (asyncio.CancelledError, GeneratorExit):
            outcome = CANCELLED
            raise
        except QueueFull:
            raise
        except ModelError as error:
            outcome, fault = error.code, error
            verdict = "ok" if error.code in SAYS_NOTHING_BAD else "failed"
            raise
        finally:
            if call is not None:
                report(call.report(outcome, fault))
            await self._settle(permit, verdict, fault)

    async def _end_probe(self, permit: Permit) -> Permit:
        """A first token is what a probe is for: others need not wait for the end of this answer."""
        if permit.probe:
            await self._breaker.report(permit, "ok")
        return replace(permit, probe="")

    async def _settle(self, permit: Permit, verdict: Verdict, fault: ModelError | None) -> None:
        rest_s = fault.retry_after_s or 0.0 if fault else 0.0
        told = self._breaker.report(permit, verdict, rest_s if rest_s > self._pause_max_s else 0.0)
        if verdict == "failed":
            await told  # the next call must know
        else:
            # Nobody waits for the books of a call that went well, least of all one that was cancelled.
            self._tasks.spawn("tell breaker", told)

    def _pause_s(self, route: ModelRoute, error: ModelError, repeats: int, deadline: float) -> float | None:
        """Return how long to wait before the same model is called again; None when it is not to be."""
        bucket = self._buckets.setdefault(route.provider, RetryBucket())
        if not repeats:
            bucket.earn()
        if not error.is_retryable or isinstance(error, QueueFull | _LeftAlone) or repeats >= self._retries:
            return None
        pause_s = full_jitter(repeats, base_s=RETRY_BASE_S, cap_s=self._pause_max_s, random=self._random())
        if error.retry_after_s is not None:
            pause_s += error.retry_after_s
        now = self._clock.monotonic()
        if (error.retry_after_s or 0.0) > self._pause_max_s or now + pause_s >= deadline or not bucket.spend(now):
            return None
        return pause_s


def _telling(before: ModelError | None, error: ModelError) -> ModelError:
    """Return which of two errors says more: what a provider said beats that it was not asked."""
    if before is None:
        return error
    not_asked = (QueueFull, _LeftAlone)
    if isinstance(error, not_asked) and not isinstance(before, not_asked):
        return before
    if isinstance(error, _LeftAlone) and isinstance(before, _LeftAlone):
        return min(before, error, key=lambda one: one.retry_after_s or 0.0)
    return error
