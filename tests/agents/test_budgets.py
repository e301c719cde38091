"""Budgets: never above the bound, most of it used, nothing lost by stopping, failing or dying."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from tests.agents.shared_state import NOWHERE, open_worker
from tests.fixtures.guards import LoopGuard

from parley.agents.accounts import Account, Bounds, Need
from parley.agents.budgets import BudgetExceeded, Budgets
from parley.agents.scripts import tagged
from parley.core.clock import SystemClock

USER = uuid.UUID(int=7)
DAY_ONLY = {
    "budget_tokens_per_minute": None,
    "budget_usd_per_minute": None,
    "budget_usd_per_day": None,
    "budget_tokens_per_day": 10_000,
    "queue_s": 0.1,
}


@asynccontextmanager
async def open_budgets(redis_url: str, guard: LoopGuard, **values: Any) -> AsyncIterator[Budgets]:
    async with open_worker(redis_url, guard, **{**DAY_ONLY, **values}) as worker:
        with guard.paused():
            budgets = Budgets(worker.scripts, worker.tasks, worker.settings, SystemClock())
        yield budgets


@pytest.fixture(params=["with redis", "without redis"])
def where(request: pytest.FixtureRequest, redis_url: str) -> tuple[str, dict[str, Any]]:
    return (redis_url if request.param == "with redis" else NOWHERE), {"alone_share": 1.0}


async def account(budgets: Budgets, user: uuid.UUID = USER) -> dict[str, list[int]]:
    """Return what Redis holds: used this day and held, each as tokens and micro-dollars."""
    kept = await budgets._step._scripts.line.redis.hgetall(f"{tagged('budget', str(user))}:account")
    return {name: [int(part) for part in kept[name.encode()].split()] for name in ("day_used", "held")}


async def spend(budgets: Budgets, tokens: int, micro_usd: int = 0) -> None:
    async with budgets.hold(USER, Need(tokens, 0, least_tokens=0, prompt_micro_usd=micro_usd)) as hold:
        hold.use(tokens, micro_usd)


async def test_what_is_left_is_granted_and_then_nothing(
    where: tuple[str, dict[str, Any]], loop_guard: LoopGuard
) -> None:
    url, values = where
    async with open_budgets(url, loop_guard, **values) as budgets:
        async with budgets.hold(USER, Need(1000, 4000)) as first, budgets.hold(USER, Need(1000, 8000)) as second:
            assert (first.completion_tokens, first.tokens_left, first.more_in_s) == (4000, 5000, 0)
            assert (second.completion_tokens, second.tokens_left) == (4000, 0)
            assert 0 < second.more_in_s <= 86_400
            with pytest.raises(BudgetExceeded) as exceeded:
                async with budgets.hold(USER, Need(1, 1)):
                    pass
            assert 0 < exceeded.value.retry_after_s <= 86_400
            first.use(1500, None)
            second.use(5000, None)
        async with budgets.hold(USER, Need(500, 9000)) as third:
            assert third.completion_tokens == 3000


async def test_money_bounds_the_tokens_it_can_pay_for(where: tuple[str, dict[str, Any]], loop_guard: LoopGuard) -> None:
    url, values = where
    async with open_budgets(url, loop_guard, **values, budget_tokens_per_day=None, budget_usd_per_day=0.01) as budgets:
        # 10,000 micro-dollars; the prompt takes 4,000, a token of answer 2.
        need = Need(100, 9000, prompt_micro_usd=4000, micro_usd_per_million=2_000_000)
        async with budgets.hold(USER, need) as hold:
            assert hold.completion_tokens == 3000
            assert (hold.tokens_left, hold.micro_usd_left) == (None, 0)
            hold.use(200, 4200)
        await spend(budgets, 1, 5800)
        with pytest.raises(BudgetExceeded):
            await spend(budgets, 1, 1)


async def test_a_minute_has_a_bound_of_its_own(where: tuple[str, dict[str, Any]], loop_guard: LoopGuard) -> None:
    url, values = where
    async with (
        open_budgets(url, loop_guard, **values, budget_tokens_per_minute=600) as budgets,
        budgets.hold(USER, Need(100, 9000)) as hold,
    ):
        assert hold.completion_tokens == 500
        assert 0 < hold.more_in_s <= 60


async def test_a_reply_may_grow_until_the_budget_is_used_up(
    where: tuple[str, dict[str, Any]], loop_guard: LoopGuard
) -> None:
    url, values = where
    async with (
        open_budgets(url, loop_guard, **values) as budgets,
        budgets.hold(USER, Need(9000, 500)) as hold,
    ):
        assert await hold.extend(400) == 400
        assert await hold.extend(400) == 100
        assert await hold.extend(400) == 0
        assert hold.completion_tokens == 1000
        hold.use(10_000, None)


async def test_what_others_of_the_user_only_hold_is_waited_for(
    where: tuple[str, dict[str, Any]], loop_guard: LoopGuard
) -> None:
    url, values = where
    async with open_budgets(url, loop_guard, **values, queue_s=5.0) as budgets:
        granted: list[int] = []

        async def ask(number: int) -> None:
            async with budgets.hold(USER, Need(1000, 5000, least_tokens=5000)) as hold:
                granted.append(number)
                assert hold.completion_tokens == 5000
                hold.use(100, None)

        async with budgets.hold(USER, Need(5000, 5000)) as first:
            waiting = [asyncio.create_task(ask(number)) for number in range(3)]
            await asyncio.sleep(0.1)
            assert granted == []
            first.use(300, None)
        await asyncio.gather(*waiting)
        assert sorted(granted) == [0, 1, 2]
        assert budgets._lines == {}


async def test_who_leaves_the_line_holds_nobody_up(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_budgets(redis_url, loop_guard, queue_s=5.0) as budgets:

        async def ask() -> None:
            async with budgets.hold(USER, Need(1000, 5000)):
                pass

        async with budgets.hold(USER, Need(5000, 5000)) as first:
            left, stays = asyncio.create_task(ask()), asyncio.create_task(ask())
            await asyncio.sleep(0.1)
            left.cancel()
            first.use(300, None)
        async with asyncio.timeout(2):
            await stays
        assert (await account(budgets)) == {"day_used": [300, 0], "held": [0, 0]}


async def test_users_do_not_share(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_budgets(redis_url, loop_guard) as budgets:
        await spend(budgets, 10_000)
        async with budgets.hold(uuid.UUID(int=8), Need(9000, 1000)) as hold:
            assert hold.completion_tokens == 1000


@pytest.mark.parametrize("end", ["stopped", "failed"])
async def test_what_a_stopped_or_failed_call_used_is_booked(redis_url: str, loop_guard: LoopGuard, end: str) -> None:
    async with open_budgets(redis_url, loop_guard) as budgets:
        begun = asyncio.Event()

        async def run() -> None:
            async with budgets.hold(USER, Need(100, 1000)) as hold:
                hold.use(340, 55)
                begun.set()
                if end == "failed":
                    raise ZeroDivisionError
                await asyncio.Event().wait()

        running = asyncio.create_task(run())
        await begun.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.sleep(0.05)
        assert await account(budgets) == {"day_used": [340, 55], "held": [0, 0]}


async def test_settling_twice_books_once(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_budgets(redis_url, loop_guard) as budgets:
        await budgets._reserve(str(USER), "one", Need(100, 100))
        assert await budgets._run("settle", str(USER), "one", 150, 3) == [1]
        assert await budgets._run("settle", str(USER), "one", 150, 3) == [0]
        assert await account(budgets) == {"day_used": [150, 3], "held": [0, 0]}


async def test_what_a_dead_worker_held_is_free_again_and_what_is_renewed_is_not(
    redis_url: str, loop_guard: LoopGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.agents.budgets.HOLD_S", 0.3)
    monkeypatch.setattr("parley.agents.budgets.RENEW_S", 0.1)
    async with open_budgets(redis_url, loop_guard) as dead, open_budgets(redis_url, loop_guard) as alive:
        alive._tasks.keep("keep budgets", alive.keep)
        await dead._reserve(str(USER), "of a dead worker", Need(0, 6000))
        async with alive.hold(USER, Need(0, 6000)) as hold:
            assert hold.completion_tokens == 4000
            await asyncio.sleep(0.5)
            assert await hold.extend(9000) == 6000


async def test_without_redis_a_worker_grants_its_share_and_books_later(
    redis_url: str, loop_guard: LoopGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.agents.budgets.RENEW_S", 0.05)
    async with open_budgets(redis_url, loop_guard, alone_share=0.25) as budgets:
        await spend(budgets, 1000)
        budgets._step._scripts.rest()
        async with budgets.hold(USER, Need(100, 9000)) as hold:
            assert hold.completion_tokens == 1400  # a quarter of 10,000, less what it used before, less the prompt
            hold.use(700, None)
        assert budgets.unbooked == 1
        assert (await account(budgets))["day_used"] == [1000, 0]
        budgets._step._scripts._resting_until = 0.0
        keeping = budgets._tasks.keep("keep budgets", budgets.keep)
        await asyncio.sleep(0.1)
        keeping.cancel()
        assert budgets.unbooked == 0
        assert (await account(budgets))["day_used"] == [1700, 0]


@pytest.mark.parametrize("workers", [1, 3])
async def test_three_hundred_runs_of_a_user_at_its_budget(redis_url: str, loop_guard: LoopGuard, workers: int) -> None:
    bound, seen_above, cut = 150_000, 0, 0
    values = {"budget_tokens_per_day": bound, "budget_usd_per_day": 100.0}
    async with AsyncExitStack() as stack:
        everyone = [
            await stack.enter_async_context(open_budgets(redis_url, loop_guard, **values)) for _ in range(workers)
        ]
        one, dice, done = everyone[0], random.Random(4), asyncio.Event()

        async def run(number: int) -> None:
            nonlocal cut, seen_above
            budgets, length = everyone[number % workers], dice.randint(100, 1600)
            prompt = dice.randint(50, 150)
            need = Need(prompt, 200, prompt_micro_usd=prompt, micro_usd_per_million=2_000_000)
            try:
                async with budgets.hold(USER, need) as hold:
                    hold.use(prompt, prompt)
                    for spoken in range(0, length, 20):
                        await asyncio.sleep(0.001)
                        if spoken + 20 > hold.completion_tokens and not await hold.extend(200):
                            cut += 1
                            break
                        hold.use(min(20, hold.completion_tokens - spoken), 40)
            except BudgetExceeded:
                cut += 1

        async def watch() -> None:
            nonlocal seen_above
            while not done.is_set():
                await asyncio.sleep(0.005)
                now = await account(one)
                seen_above += now["day_used"][0] + now["held"][0] > bound

        await spend(one, 1)
        watching = asyncio.create_task(watch())
        await asyncio.gather(*(run(number) for number in range(300)))
        done.set()
        await watching
        end = await account(one)
    used = end["day_used"][0]
    print(f"300 runs, {workers} workers: used {used} of {bound} tokens ({used / bound:.1%}), {cut} runs cut")
    assert end["held"] == [0, 0]
    assert not seen_above
    assert cut
    assert 0.9 * bound <= used <= bound


def test_an_account_in_memory_never_passes_a_bound_over_the_turn_of_minutes_and_days() -> None:
    dice, bounds = random.Random(11), Bounds(900, 4000, 500, 2500)
    mine, now, open_holds = Account(), 86_000.0, dict[str, tuple[int, int]]()
    for number in range(5000):
        now += dice.random() * 3
        if open_holds and dice.random() < 0.5:
            hold, (tokens, micro_usd) = open_holds.popitem()
            mine.settle(hold, dice.randint(0, tokens), dice.randint(0, micro_usd), now)
        else:
            need = Need(dice.randint(0, 50), dice.randint(1, 300), 1, dice.randint(0, 30), dice.randint(0, 900_000))
            if mine.reserve(str(number), need, bounds, now).completion_tokens is not None:
                open_holds[str(number)] = mine.holds[str(number)]
        held = [sum(hold[unit] for hold in mine.holds.values()) for unit in (0, 1)]
        assert mine.minute_used[0] + held[0] <= 900
        assert mine.day_used[0] + held[0] <= 4000
        assert mine.minute_used[1] + held[1] <= 500
        assert mine.day_used[1] + held[1] <= 2500
