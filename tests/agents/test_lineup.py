"""The lineup: where a model's name leads, and an answer of the cache in the path of a reply."""

import asyncio
from dataclasses import replace

from tests.agents.paid_desk import ADA, PaidDesk, open_paid_desk, text_of
from tests.fixtures.guards import LoopGuard

from parley.agents.interface import Event, Finished, HistoryMessage, Started
from parley.agents.lineup import Lineup
from parley.agents.schemas import AgentCommand, to_command, to_definition


def reasons(events: list[Event]) -> list[str]:
    return [event.chosen_because for event in events if isinstance(event, Started)]


async def ask_twice(desk: PaidDesk) -> tuple[list[Event], list[Event]]:
    first = await desk.ask(desk.turn(40))
    await asyncio.sleep(0.05)  # what was said is kept after it was said
    return first, await desk.ask(desk.turn(40))


async def test_a_caching_agent_answers_the_same_again_marked_and_without_budget(
    redis_url: str, loop_guard: LoopGuard
) -> None:
    async with open_paid_desk(redis_url, loop_guard, caches=True, budget_tokens_per_day=10_000) as desk:
        first, second = await ask_twice(desk)

        assert text_of(second) == text_of(first) == " ok" * 40
        assert reasons(second) == [*reasons(first), "cached"]
        assert isinstance(second[-1], Finished)
        (attempt,) = second[-1].attempts
        assert (attempt.is_cached, attempt.cost_usd, attempt.prompt_tokens, attempt.completion_tokens) == (
            True,
            0,
            0,
            0,
        )
        assert len(desk.talker.asked) == 1
        assert (await desk.settled())[0] == desk.talker.used_tokens


async def test_a_kept_answer_is_told_even_where_the_budget_is_used_up(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_paid_desk(redis_url, loop_guard, caches=True, budget_tokens_per_day=600) as desk:
        await desk.ask(desk.turn(40))
        await desk.ask(desk.turn(2000))
        assert text_of(await desk.ask(desk.turn(40))) == " ok" * 40


async def test_an_answer_the_budget_cut_is_not_kept(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_paid_desk(redis_url, loop_guard, caches=True, budget_tokens_per_day=600) as desk:
        await desk.ask(desk.turn(2000))
        assert not await desk.worker.scripts.line.redis.exists("parley:{cache}:answers")


async def test_an_agent_that_does_not_cache_asks_every_time(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_paid_desk(redis_url, loop_guard) as desk:
        first, second = await ask_twice(desk)

        assert reasons(second) == reasons(first)
        assert len(desk.talker.asked) == 2


async def test_another_name_in_the_prompt_or_another_version_is_another_answer(
    redis_url: str, loop_guard: LoopGuard
) -> None:
    async with open_paid_desk(redis_url, loop_guard, caches=True) as desk:
        await ask_twice(desk)
        await desk.ask(desk.turn(40, user=replace(ADA, name="Grace")))
        assert len(desk.talker.asked) == 2

        agent = await desk.runner._find_agent(None)
        assert agent

        async def newer(_: str | None) -> object:
            return replace(agent, version=2)

        desk.runner._find_agent = newer  # type: ignore[assignment]
        await desk.ask(desk.turn(40))
        assert len(desk.talker.asked) == 3


def test_an_agent_stored_before_there_was_a_cache_has_none() -> None:
    old = AgentCommand.model_validate({"prompt": "Answer."})

    assert not to_definition("support", 1, old).caches
    assert to_command(
        to_definition("support", 1, AgentCommand.model_validate({"prompt": "Answer.", "caches": True}))
    ).caches


async def test_a_name_leads_to_its_provider_and_else_to_the_main_one(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_paid_desk(redis_url, loop_guard) as desk:
        client = desk.lineup._clients["main"]
        lineup = Lineup(desk.lineup._metered, desk.lineup._cache, {"main": client, "backup": client})

        found = [lineup.route(name) for name in ("m", "backup/m", "backup/org/m", "org/m", "main/m", "backup/")]

    assert [(route.provider, route.model) for route in found] == [
        ("main", "m"),
        ("backup", "m"),
        ("backup", "org/m"),
        ("main", "org/m"),
        ("main", "main/m"),
        ("main", "backup/"),
    ]


async def test_history_of_others_is_no_part_of_an_answer_of_the_cache(redis_url: str, loop_guard: LoopGuard) -> None:
    """Whoever said something else before asks another question, though its last words are the same."""
    async with open_paid_desk(redis_url, loop_guard, caches=True) as desk:
        await desk.ask(desk.turn(40))
        before = [HistoryMessage("user", "I am ill."), HistoryMessage("assistant", "Oh."), *desk.turn(40).history]
        await desk.ask(desk.turn(40, history=before))
        assert len(desk.talker.asked) == 2
