"""What a user may use in a minute and a day, in tokens and money: reserved before a call, settled after it.

Redis keeps the accounts, one Lua step each. While it is away each worker grants its share of every bound from its own
memory, and books what was used in Redis when that is back. Knows no prices: money comes as micro-dollars.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from uuid import UUID

import structlog

from parley.agents.accounts import MILLION, Account, Bounds, Grant, Need
from parley.agents.scripts import Scripts, SharedAway, tagged
from parley.agents.settings import AgentsSettings
from parley.core.clock import Clock
from parley.core.ids import new_id
from parley.core.tasks import Tasks

log = structlog.get_logger(__name__)

HOLD_S = 60.0  # what a dead worker's calls held is free again after this
RENEW_S = HOLD_S / 3  # two renewals may fail
WAIT_S = 0.05  # between two questions whether other calls of a user gave something back
MOST_UNBOOKED = 10_000  # what a worker remembers to book; about a megabyte


class BudgetExceeded(Exception):
    """The user has used what there is; `retry_after_s` is when there may be more."""

    code = "budget_exceeded"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(self.code)
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class _Line:
    """The calls of a user that wait for others of the user: one asks at a time, in the order they came."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


@dataclass(frozen=True, slots=True)
class _Bill:
    user: str
    tokens: int
    micro_usd: int


class Hold:
    """What a call may use. Tell it what the call used: that is booked when the block ends, however it ends."""

    def __init__(self, budgets: "Budgets", user: str, hold: str, need: Need, grant: Grant) -> None:
        self._budgets = budgets
        self._user = user
        self._id = hold
        self._need = need
        self._grant = grant
        self.completion_tokens = grant.completion_tokens or 0
        """Tokens of answer this call may have so far: its max_tokens."""
        self.used_tokens = 0
        self.used_micro_usd = 0

    @property
    def tokens_left(self) -> int | None:
        """What the user had left after the last grant; None without a bound."""
        return self._grant.tokens_left

    @property
    def micro_usd_left(self) -> int | None:
        """The same in money."""
        return self._grant.micro_usd_left

    @property
    def reach_tokens(self) -> int | None:
        """The longest answer this call can come to while nobody else of the user asks; None without a bound."""
        left = [] if self.tokens_left is None else [self.tokens_left]
        if self.micro_usd_left is not None and self._need.micro_usd_per_million:
            left.append(self.micro_usd_left * MILLION // self._need.micro_usd_per_million)
        return self.completion_tokens + min(left) if left else None

    @property
    def more_in_s(self) -> float:
        """In how many seconds a bound that cut the grant begins anew; 0 when none did."""
        return self._grant.more_in_s

    async def extend(self, completion_tokens: int) -> int:
        """Ask for that many tokens of answer more; return how many there are, 0 when the budget is used up."""
        need = Need(0, completion_tokens, micro_usd_per_million=self._need.micro_usd_per_million)
        self._grant = await self._budgets._reserve(self._user, self._id, need)  # noqa: SLF001  # one thing, two faces
        granted = self._grant.completion_tokens or 0
        self.completion_tokens += granted
        return granted

    def use(self, tokens: int, micro_usd: int | None) -> None:
        """Note what was used; a price that is not known costs no money here."""
        self.used_tokens += tokens
        self.used_micro_usd += micro_usd or 0


class Budgets:
    """The accounts of all users."""

    def __init__(self, scripts: Scripts, tasks: Tasks, settings: AgentsSettings, clock: Clock) -> None:
        self._step = scripts.load(__package__, "budgets")
        self._tasks = tasks
        self._clock = clock
        self._bounds = Bounds(
            settings.budget_tokens_per_minute,
            settings.budget_tokens_per_day,
            _micro(settings.budget_usd_per_minute),
            _micro(settings.budget_usd_per_day),
        )
        self._own_bounds = self._bounds.share(settings.alone_share)
        self._accounts: dict[str, Account] = {}
        self._open: dict[str, str] = {}
        self._unbooked: dict[str, _Bill] = {}
        self._lines: dict[str, _Line] = {}
        self._queue_s = settings.queue_s

    @asynccontextmanager
    async def hold(self, user_id: UUID, need: Need) -> AsyncIterator[Hold]:
        """Reserve what a call needs, or the part of it that is left; raise BudgetExceeded when that is too little.

        What is only held by other calls of the user is waited for: most of them will not use all of it.
        """
        user, hold_id = str(user_id), new_id().hex
        self._open[hold_id] = user
        hold: Hold | None = None
        try:
            grant = await self._reserve(user, hold_id, need)
            if grant.is_held:
                grant = await self._wait(user, hold_id, need, grant)
            if grant.completion_tokens is None:
                raise BudgetExceeded(grant.more_in_s)
            hold = Hold(self, user, hold_id, need, grant)
            yield hold
        finally:
            del self._open[hold_id]
            bill = _Bill(user, 0, 0) if hold is None else _Bill(user, hold.used_tokens, hold.used_micro_usd)
            # A task of its own: whoever is cancelled has used what it has used.
            settled = self._tasks.spawn("settle budget", self._settle(hold_id, bill))
        await asyncio.shield(settled)

    async def keep(self) -> None:
        """Renew what calls under way hold and book what could not be booked; to be kept running beside them."""
        while True:
            for hold, user in list(self._open.items()):
                with suppress(SharedAway):
                    await self._run("renew", user, hold)
            for hold, bill in list(self._unbooked.items()):
                with suppress(SharedAway):
                    await self._run("settle", bill.user, hold, bill.tokens, bill.micro_usd)
                    self._unbooked.pop(hold, None)
            now = self._clock.now().timestamp()
            for user in [user for user, account in self._accounts.items() if account.is_idle(now)]:
                del self._accounts[user]
            await self._clock.sleep(RENEW_S)

    @property
    def unbooked(self) -> int:
        """Settlements that wait for Redis."""
        return len(self._unbooked)

    async def _wait(self, user: str, hold: str, need: Need, grant: Grant) -> Grant:
        line = self._lines.setdefault(user, _Line())
        line.length += 1
        try:
            async with asyncio.timeout(self._queue_s), line.turn:
                while (grant := await self._reserve(user, hold, need)).is_held:
                    await self._clock.sleep(WAIT_S)
        except TimeoutError:
            # Should Redis have granted it in this moment: what is settled is free again.
            return replace(grant, completion_tokens=None)
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[user]
        return grant

    async def _reserve(self, user: str, hold: str, need: Need) -> Grant:
        bounds = self._bounds
        try:
            granted, tokens_left, micro_usd_left, more_in_ms, is_held = await self._run(
                "reserve",
                user,
                hold,
                need.prompt_tokens,
                need.completion_tokens,
                need.least_tokens,
                need.prompt_micro_usd,
                need.micro_usd_per_million,
                *(
                    -1 if bound is None else bound
                    for bound in (
                        bounds.minute_tokens,
                        bounds.day_tokens,
                        bounds.minute_micro_usd,
                        bounds.day_micro_usd,
                    )
                ),
            )
        except SharedAway:
            return self._account(user).reserve(hold, need, self._own_bounds, self._clock.now().timestamp())
        return Grant(
            None if granted < 0 else granted,
            None if tokens_left < 0 else tokens_left,
            None if micro_usd_left < 0 else micro_usd_left,
            more_in_ms / 1000,
            is_held=bool(is_held),
        )

    async def _settle(self, hold: str, bill: _Bill) -> None:
        # The worker's own account is kept up to date: its share is what it has not used, should Redis go away.
        self._account(bill.user).settle(hold, bill.tokens, bill.micro_usd, self._clock.now().timestamp())
        with suppress(SharedAway):
            await self._run("settle", bill.user, hold, bill.tokens, bill.micro_usd)
            return
        if len(self._unbooked) >= MOST_UNBOOKED:
            self._unbooked.pop(next(iter(self._unbooked)))
            log.error("usage_not_booked")
        self._unbooked[hold] = bill  # settling twice books once

    def _account(self, user: str) -> Account:
        return self._accounts.setdefault(user, Account())

    async def _run(self, operation: str, user: str, hold: str, *arguments: int) -> list[int]:
        tag = tagged("budget", user)
        keys = [f"{tag}:account", f"{tag}:ends", f"{tag}:holds"]
        answer = await self._step(keys, operation, hold, math.ceil(HOLD_S * 1000), *arguments)
        return answer if isinstance(answer, list) else [answer]


def _micro(usd: float | None) -> int | None:
    return None if usd is None else round(usd * MILLION)
