"""Answers within a user's budget: reserved before the call, more asked for as it grows, cut where there is none.

Whatever a call used is booked, also of one that was left, failed or began anew. Knows no cache: a kept answer is free.
"""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from uuid import UUID

from parley.agents.accounts import MILLION, Need
from parley.agents.booking import book, estimate_tokens
from parley.agents.budgets import BudgetExceeded, Budgets, Hold
from parley.agents.clients.attempts import AttemptReport
from parley.agents.clients.fallback import CANCELLED, Answering, AnswerItem, Fallback, ModelRoute, Report, Restarting
from parley.agents.clients.port import Finish, ModelError, ModelEvent, ModelRequest, TextDelta, ToolCallDelta
from parley.agents.counting import count_request
from parley.agents.failures import BUDGET
from parley.agents.metrics import AgentMetrics
from parley.agents.tariff import Tariff

# Of answer: reserved before a call, and again whenever that is nearly used up. More would mean fewer round trips, and
# more that lies idle in answers that end before: calls of the same user have to wait for it.
STEP_TOKENS = 128
AHEAD_TOKENS = 64  # what "nearly" is: one read of the provider's socket may bring many tokens
LEAST_TOKENS = 16  # for less of an answer no prompt is paid


class Metered:
    """A Fallback whose answers end where the user's budget does."""

    def __init__(self, fallback: Fallback, budgets: Budgets, tariff: Tariff, metrics: AgentMetrics) -> None:
        self._fallback = fallback
        self._budgets = budgets
        self._tariff = tariff
        self._metrics = metrics

    @asynccontextmanager
    async def stream(
        self, routes: Sequence[ModelRoute], request: ModelRequest, report: Report, user_id: UUID
    ) -> AsyncIterator[AsyncIterator[AnswerItem]]:
        """Ask the models in order, see clients.fallback; a budget that is used up is a ModelError of its name."""
        need = self._need(routes, request)
        try:
            # One round trip to Redis, the only one before the first token.
            async with self._budgets.hold(user_id, need) as hold:
                meter = _Meter(hold, need.prompt_tokens, request.max_tokens)
                told = self._booked(meter, hold, request, report)
                bounded = replace(request, max_tokens=meter.max_tokens)
                async with (
                    self._fallback.stream(routes, bounded, told) as items,
                    aclosing(meter.watch(items)) as watched,
                ):
                    yield watched
        except BudgetExceeded as error:
            self._metrics.budget_exhausted.labels("user").inc()
            raise ModelError(BUDGET, retry_after_s=error.retry_after_s) from None

    def _need(self, routes: Sequence[ModelRoute], request: ModelRequest) -> Need:
        prompt_tokens = count_request(request)
        wanted = STEP_TOKENS if request.max_tokens is None else min(STEP_TOKENS, request.max_tokens)
        # Any of them may answer: the dearest is reserved for. A price nobody knows bounds nothing.
        quotes = [self._tariff.quote(route.provider, route.model, prompt_tokens) for route in routes]
        known = [quote for quote in quotes if quote is not None]
        return Need(
            prompt_tokens,
            wanted,
            least_tokens=min(LEAST_TOKENS, wanted),
            prompt_micro_usd=max((quote.prompt_micro_usd for quote in known), default=0),
            micro_usd_per_million=max((quote.micro_usd_per_million for quote in known), default=0),
        )

    def _booked(
        self, meter: "_Meter", hold: Hold, request: ModelRequest, report: Report
    ) -> Callable[[AttemptReport], None]:
        """Return a report that is booked first."""

        def told(attempt: AttemptReport) -> None:
            if meter.is_over and attempt.outcome == CANCELLED:
                attempt = replace(attempt, outcome=BUDGET)
            booked = book(attempt, request, self._tariff.price)
            micro_usd = None if booked.cost_usd is None else math.ceil(round(booked.cost_usd * MILLION, 3))
            self._metrics.called(attempt, booked)
            if attempt.outcome == BUDGET:
                self._metrics.budget_exhausted.labels("user").inc()
            hold.use(booked.prompt_tokens + booked.completion_tokens, micro_usd)
            report(attempt)

        return told


class _Meter:
    """Watches an answer grow, and the reservation with it."""

    def __init__(self, hold: Hold, prompt_tokens: int, asked: int | None) -> None:
        self._hold = hold
        self._prompt_tokens = prompt_tokens
        reach = hold.reach_tokens
        self._is_bounded = reach is not None and (asked is None or reach < asked)
        self.max_tokens = reach if self._is_bounded else asked
        """With it the provider stops by itself, should nobody else of the user ask meanwhile."""
        self.is_over = False
        self._characters = self._pieces = 0
        self._is_short = False

    async def watch(self, items: AsyncIterator[AnswerItem]) -> AsyncGenerator[AnswerItem, None]:
        """Yield the items; raise where the budget ends."""
        finish: Finish | None = None
        async for item in items:
            if isinstance(item, Restarting):
                yield item
            elif isinstance(item, Answering):
                self._characters = self._pieces = 0
                yield item
            else:
                finish = self._count(item)
                is_cut = self._is_bounded and finish is not None and finish.reason == "length"
                shown = [event for event in item if not isinstance(event, Finish)] if is_cut else item
                if shown:
                    yield shown
                self.is_over = is_cut or (finish is None and not await self._has_room())
                if self.is_over and finish is None:
                    raise ModelError(BUDGET, retry_after_s=self._hold.more_in_s)
        if self.is_over:
            raise ModelError(BUDGET, retry_after_s=self._hold.more_in_s)

    def _count(self, batch: Sequence[ModelEvent]) -> Finish | None:
        finish = None
        for event in batch:
            if isinstance(event, TextDelta):
                self._characters += len(event.text)
            elif isinstance(event, ToolCallDelta):
                self._characters += len(event.arguments) + len(event.name or "")
            else:
                finish = event
                continue
            self._pieces += 1
        return finish

    async def _has_room(self) -> bool:
        """Return whether the answer may go on; asks for more before it has come to the end of what is reserved."""
        hold = self._hold
        reserved = self._prompt_tokens + hold.completion_tokens
        used = hold.used_tokens + self._prompt_tokens + estimate_tokens(self._characters, self._pieces)
        left = reserved - used
        if left >= AHEAD_TOKENS or (self._is_short and left > 0):
            return True
        wanted = max(STEP_TOKENS, AHEAD_TOKENS - left)
        granted = await hold.extend(wanted)
        self._is_short = granted < wanted
        return left + granted > 0
