"""Budgets in the path of a reply: reserved before, more as it grows, cut where there is none, all of it booked."""

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest
from tests.agents.paid_desk import open_paid_desk, text_of
from tests.fixtures.guards import LoopGuard

from parley.agents.interface import Event, Finished, TextGrew


def ended(events: list[Event]) -> str:
    last = events[-1]
    assert isinstance(last, Finished), last
    return last.finish_reason


async def test_an_answer_within_the_budget_is_booked_as_the_provider_counted(
    redis_url: str, loop_guard: LoopGuard
) -> None:
    async with open_paid_desk(redis_url, loop_guard, budget_tokens_per_day=10_000, budget_usd_per_day=1.0) as desk:
        events = await desk.ask(desk.turn(700))

        assert (ended(events), text_of(events)) == ("stop", " ok" * 700)
        assert await desk.settled() == (desk.talker.used_tokens, desk.booked_micro_usd)
        assert desk.booked_tokens == desk.talker.used_tokens
        assert desk.talker.asked[0]["max_tokens"] == 4096


@pytest.mark.parametrize("bound", [{"budget_tokens_per_day": 1000}, {"budget_usd_per_day": 0.02}])
async def test_a_provider_is_told_where_the_budget_ends_and_the_reply_says_so(
    redis_url: str, loop_guard: LoopGuard, bound: dict[str, Any]
) -> None:
    async with open_paid_desk(redis_url, loop_guard, **bound) as desk:
        events = await desk.ask(desk.turn(3000))

        assert ended(events) == "budget_exceeded"
        assert text_of(events) == " ok" * desk.talker.said_tokens
        assert 900 < desk.talker.asked[0]["max_tokens"] < 1000
        tokens, micro_usd = await desk.settled()
        if "budget_usd_per_day" in bound:
            assert 19_900 < micro_usd <= 20_000
        else:
            assert tokens == 1000
        assert ended(await desk.ask(desk.turn(1))) == "budget_exceeded"
        assert len(desk.talker.asked) == 1


async def test_an_answer_is_cut_when_others_of_the_user_have_taken_what_was_left(
    redis_url: str, loop_guard: LoopGuard
) -> None:
    async with open_paid_desk(redis_url, loop_guard, budget_tokens_per_day=800, pace_s=0.003) as desk:
        both = await asyncio.gather(desk.ask(desk.turn(3000)), desk.ask(desk.turn(3000)))

        assert [ended(events) for events in both] == ["budget_exceeded"] * 2
        assert "budget_exceeded" in {attempt.outcome for attempt in desk.attempts}
        assert 700 < (await desk.settled())[0] <= 800
        assert desk.traffic.under_way == 0


async def test_an_answer_that_ends_by_its_own_limit_is_no_matter_of_budgets(
    redis_url: str, loop_guard: LoopGuard
) -> None:
    async with open_paid_desk(redis_url, loop_guard, budget_tokens_per_day=10_000, max_tokens=50) as desk:
        assert ended(await desk.ask(desk.turn(100))) == "length"


async def test_a_model_of_unknown_price_counts_its_tokens_only(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_paid_desk(redis_url, loop_guard, budget_tokens_per_day=1000, budget_usd_per_day=0.000001) as desk:
        assert ended(await desk.ask(desk.turn(20, model="odd"))) == "stop"
        assert await desk.settled() == (desk.talker.used_tokens, 0)
        assert desk.attempts[0].cost_usd is None


async def test_the_first_token_waits_for_one_round_trip_of_the_budget(
    redis_url: str, loop_guard: LoopGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_paid_desk(redis_url, loop_guard, budget_tokens_per_day=100_000, pace_s=0.001) as desk:
        trips: list[str] = []
        run = desk.budgets._run

        async def counted(operation: str, *rest: Any) -> list[int]:
            if operation != "renew":  # beside the replies, every twenty seconds
                trips.append(operation)
            return await run(operation, *rest)

        monkeypatch.setattr(desk.budgets, "_run", counted)
        before_first: list[str] | None = None
        async with desk.runner.run(desk.turn(700)) as events:
            async for event in events:
                if isinstance(event, TextGrew) and before_first is None:
                    before_first = trips.copy()

        assert before_first == ["reserve"]
        # 700 tokens in steps of 128, each asked for before the one before is used up.
        assert trips == ["reserve"] * 6 + ["settle"]


async def test_without_redis_a_worker_keeps_to_its_share(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_paid_desk(redis_url, loop_guard, budget_tokens_per_day=4000, alone_share=0.25) as desk:
        desk.worker.scripts.rest()
        assert ended(await desk.ask(desk.turn(3000))) == "budget_exceeded"
        assert desk.booked_tokens == 1000


async def test_both_attempts_of_an_answer_that_began_anew_are_booked(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_paid_desk(redis_url, loop_guard, budget_tokens_per_day=10_000, retries=0) as desk:
        find = desk.runner._find_agent

        async def with_fallback(name: str | None) -> Any:
            agent = await find(name)
            assert agent
            return replace(agent, models=replace(agent.models, fallbacks=("m",)))

        desk.runner._find_agent = with_fallback
        events = await desk.ask(desk.turn(30, model="script-truncate-close"))

        assert ended(events) == "stop"
        assert [attempt.outcome for attempt in desk.attempts] == ["model_truncated", "ok"]
        assert (await desk.settled())[0] == desk.booked_tokens > 2 * desk.attempts[0].prompt_tokens


async def test_three_hundred_runs_of_a_user_at_its_budget(redis_url: str, loop_guard: LoopGuard) -> None:
    bound, above, most = 10_000, 0, 0
    dice = random.Random(4)
    async with open_paid_desk(redis_url, loop_guard, budget_tokens_per_day=bound, pace_s=0.01) as desk:
        done = asyncio.Event()

        async def watch() -> None:
            nonlocal above, most
            while not done.is_set():
                account = await desk.account()
                used = account["day_used"][0] + account["held"][0]
                above, most = above + (used > bound), max(most, used)
                await asyncio.sleep(0.005)

        watching = asyncio.create_task(watch())
        replies = await asyncio.gather(*(desk.ask(desk.turn(dice.randint(20, 300))) for _ in range(300)))
        done.set()
        await watching
        used, _ = await desk.settled()
    cut = sum(ended(events) == "budget_exceeded" for events in replies)
    print(f"300 runs: booked {used} ({used / bound:.1%}), said {desk.talker.used_tokens}, {cut} cut, most {most}")
    assert not above
    assert cut
    assert 0.9 * bound <= used <= bound
