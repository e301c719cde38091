"""Attack 39, denial of wallet: whatever a user does, the bound holds to a call under way, and nothing is for free."""

import asyncio
from typing import Any

import pytest
from tests.agents.paid_desk import PaidDesk, open_paid_desk, text_of
from tests.fixtures.guards import LoopGuard

from parley.agents.interface import Event, Finished, HistoryMessage, TextGrew, Turn
from parley.agents.metering import STEP_TOKENS

BOUND = 5000
UNDER_WAY = STEP_TOKENS  # of answer: what a call may have reserved and not told of


def ended(events: list[Event]) -> str:
    last = events[-1]
    assert isinstance(last, Finished), last
    return last.finish_reason


async def abort(desk: PaidDesk, turn: Turn, *, after_words: int) -> None:
    """Leave a reply after some words; before the first, as soon as the provider was asked."""

    async def consume(enough: asyncio.Event) -> None:
        words = 0
        async with desk.runner.run(turn) as events:
            async for event in events:
                words += isinstance(event, TextGrew)
                if after_words and words >= after_words:
                    enough.set()

    before, enough = desk.traffic.number, asyncio.Event()
    running = asyncio.create_task(consume(enough))
    if after_words:
        waiting = asyncio.create_task(enough.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    else:
        while desk.traffic.number == before and not running.done():
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_longest_answers_end_at_the_bound(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_paid_desk(redis_url, loop_guard, max_tokens=65_536, budget_tokens_per_day=BOUND) as desk:
        replies = [await desk.ask(desk.turn(60_000)) for _ in range(3)]

        assert [ended(events) for events in replies] == ["budget_exceeded"] * 3
        assert desk.talker.used_tokens <= BOUND + UNDER_WAY
        assert len(desk.talker.asked) <= 2
        assert (await desk.settled())[0] == desk.booked_tokens <= BOUND + UNDER_WAY


async def test_a_context_that_grows_for_a_hundred_turns_is_paid_for_each_time(
    redis_url: str, loop_guard: LoopGuard
) -> None:
    async with open_paid_desk(redis_url, loop_guard, budget_tokens_per_day=20_000) as desk:
        history, refused = list[HistoryMessage](), 0
        for number in range(100):
            asked = [*history, HistoryMessage("user", f"{'Attend to this! ' * 40} {number} Say 5")]
            events = await desk.ask(desk.turn(0, history=asked))
            refused += ended(events) == "budget_exceeded"
            history = [*asked, HistoryMessage("assistant", text_of(events) or "no")]

        assert refused > 80
        assert desk.talker.used_tokens <= 20_000
        assert (await desk.settled())[0] == desk.talker.used_tokens
        # No prompt grows past what the agent allows, whatever a conversation holds.
        assert max(attempt.prompt_tokens for attempt in desk.attempts) <= 16_000


@pytest.mark.parametrize("after_words", [0, 1, 20])
async def test_asking_and_leaving_again_and_again_is_no_way_around(
    redis_url: str, loop_guard: LoopGuard, after_words: int
) -> None:
    async with open_paid_desk(redis_url, loop_guard, budget_tokens_per_day=BOUND, pace_s=0.002) as desk:
        stuffing = "Attend to this! " * 60
        for _ in range(40):
            await abort(desk, desk.turn(500, before=stuffing), after_words=after_words)

        tokens, micro_usd = await desk.settled()
        calls = len(desk.talker.asked)
        prompt = desk.attempts[0].prompt_tokens
        assert {attempt.outcome for attempt in desk.attempts} <= {"cancelled", "budget_exceeded", "ok"}
        assert len(desk.attempts) == calls <= BOUND // (prompt + after_words) + 1
        assert (tokens, micro_usd) == (desk.booked_tokens, desk.booked_micro_usd)
        assert BOUND - prompt - UNDER_WAY < tokens <= BOUND + UNDER_WAY
        # What the provider had said and nobody heard is all that is missing.
        assert desk.talker.used_tokens - tokens <= 10 * calls
        assert ended(await desk.ask(desk.turn(500, before=stuffing))) == "budget_exceeded"


async def test_leaving_many_at_once_is_no_way_around(redis_url: str, loop_guard: LoopGuard) -> None:
    patient: dict[str, Any] = {"queue_s": 2.0, "shared_deadline_s": 1.0}
    async with open_paid_desk(redis_url, loop_guard, budget_tokens_per_day=BOUND, pace_s=0.002, **patient) as desk:
        tokens, rounds = 0, 0
        while rounds < 3 or (tokens < 0.9 * BOUND and rounds < 12):  # a busy machine gets fewer done in one
            await asyncio.gather(*(abort(desk, desk.turn(500), after_words=30) for _ in range(60)))
            (tokens, _), rounds = await desk.settled(), rounds + 1

        assert tokens == desk.booked_tokens
        assert 0.9 * BOUND <= tokens <= BOUND + UNDER_WAY


@pytest.mark.parametrize("script", ["truncate-close", "hang-middle", "bad-json", "hang-first", "error-event"])
async def test_calls_that_fail_are_paid_for(redis_url: str, loop_guard: LoopGuard, script: str) -> None:
    deadlines = {"first_token_s": 0.05, "silence_s": 0.05}
    values: dict[str, Any] = {"retries": 0, "breaker_min_calls": 1000, "budget_tokens_per_day": 500}
    async with open_paid_desk(redis_url, loop_guard, provider=deadlines, **values) as desk:
        replies = [await desk.ask(desk.turn(5, model=f"script-{script}")) for _ in range(20)]

        assert ended(replies[-1]) == "budget_exceeded"
        assert {attempt.is_estimated for attempt in desk.attempts} == {True}
        tokens, _ = await desk.settled()
        assert tokens == desk.booked_tokens
        assert 400 < tokens <= 500


@pytest.mark.parametrize("script", ["refuse", "status?status=429", "status?status=401"])
async def test_a_provider_that_did_nothing_is_paid_nothing(redis_url: str, loop_guard: LoopGuard, script: str) -> None:
    async with open_paid_desk(redis_url, loop_guard, retries=0, breaker_min_calls=1000) as desk:
        for _ in range(3):
            await desk.ask(desk.turn(5, model=f"script-{script}"))

        assert len(desk.attempts) == 3
        assert await desk.settled() == (0, 0)


async def test_tool_calls_of_any_size_are_counted(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_paid_desk(redis_url, loop_guard, budget_tokens_per_day=BOUND) as desk:
        events = await desk.ask(desk.turn(5, model="script-huge-call?size_bytes=5000000"))

        assert ended(events) == "budget_exceeded"
        assert desk.attempts[-1].outcome == "budget_exceeded"
        read_at_once = 64 * 1024 / 3.5
        assert BOUND < (await desk.settled())[0] <= BOUND + UNDER_WAY + 2 * read_at_once
        assert ended(await desk.ask(desk.turn(5))) == "budget_exceeded"
