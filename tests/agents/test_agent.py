"""The agent as a whole: the runner and the real client against the demo server, over real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from uuid import UUID

import pytest
import pytest_asyncio
from tests.fixtures.guards import LoopGuard

from parley.agents.clients.openai import OpenAIClient, open_openai
from parley.agents.definition import AgentDefinition, default_definition
from parley.agents.demo.brain import reply
from parley.agents.demo.server import open_demo
from parley.agents.demo.traffic import Traffic
from parley.agents.direct import Direct
from parley.agents.interface import (
    Attempt,
    Event,
    Failed,
    Finished,
    HistoryMessage,
    SourcesFound,
    TextGrew,
    Turn,
    TurnUser,
)
from parley.agents.knowledge import load_samples
from parley.agents.runner import Runner
from parley.agents.settings import AgentsSettings
from parley.agents.tools.current_time import current_time
from parley.agents.tools.handoff import handoff_to_human
from parley.agents.tools.outcome import Dependencies
from parley.agents.tools.registry import Registry
from parley.agents.tools.search_knowledge import search_knowledge
from parley.core.clock import SystemClock

ADA = TurnUser(UUID(int=3), "Ada", "user", is_guest=False)
TURN = Turn(UUID(int=1), UUID(int=2), ADA, [HistoryMessage("user", "How do I return a jacket?")])


@dataclass
class Desk:
    """A running agent, and what its provider sees."""

    runner: Runner
    traffic: Traffic
    attempts: list[Attempt]

    async def ask(self, turn: Turn) -> list[Event]:
        async with self.runner.run(turn) as events, asyncio.timeout(20):
            return [event async for event in events]


@pytest_asyncio.fixture
async def desk(loop_guard: LoopGuard) -> AsyncIterator[Desk]:
    clock = SystemClock()
    traffic, attempts = Traffic(clock), list[Attempt]()
    with loop_guard.paused():
        definition, knowledge = default_definition(), load_samples()

    async def find(_: str | None) -> AgentDefinition:
        return definition

    async with open_demo(reply=reply, traffic=traffic) as url:
        settings = AgentsSettings(base_url=url, name="demo", silence_s=0.5, first_token_s=0.5)
        with loop_guard.paused():
            client = open_openai(settings)
        async with client:
            yield Desk(
                Runner(
                    models=Direct(OpenAIClient(client, settings, clock), "demo", clock),
                    tools=Registry.of(
                        [search_knowledge, current_time, handoff_to_human], Dependencies(knowledge, clock)
                    ),
                    find_agent=find,
                    clock=clock,
                    configured_model="demo",
                    record=lambda _, attempt: attempts.append(attempt),
                ),
                traffic,
                attempts,
            )


async def test_a_question_is_answered_from_what_the_tool_found(desk: Desk) -> None:
    events = await desk.ask(TURN)

    text = "".join(event.text for event in events if isinstance(event, TextGrew))
    assert "60 days" in text
    assert "[1]" in text
    assert any(isinstance(event, SourcesFound) for event in events)
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.finish_reason, [attempt.is_estimated for attempt in last.attempts]) == ("stop", [False, False])


async def test_a_wish_for_a_person_ends_as_a_handoff(desk: Desk) -> None:
    history = [HistoryMessage("user", "I want to talk to a human, please.")]
    last = (await desk.ask(replace(TURN, history=history)))[-1]

    assert isinstance(last, Finished)
    assert last.finish_reason == "handoff"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("refuse", "model_unreachable"),
        ("status?status=500", "model_broken"),
        ("hang-first?ping_s=0.05", "model_first_token_timeout"),
        ("hang-middle?ping_s=0.05", "model_silent"),
        ("html", "model_garbled"),
    ],
)
async def test_what_a_provider_does_wrong_ends_the_reply_by_its_name(desk: Desk, script: str, code: str) -> None:
    last = (await desk.ask(replace(TURN, model=f"script-{script}")))[-1]

    assert isinstance(last, Failed)
    assert last.code == code
    assert [attempt.outcome for attempt in last.attempts] == [code]


async def test_a_model_that_only_calls_tools_with_huge_arguments_is_ended(desk: Desk) -> None:
    last = (await desk.ask(replace(TURN, model="script-huge-call?size_bytes=5000000")))[-1]

    assert isinstance(last, Finished)
    assert last.finish_reason == "step_limit"


async def test_cancelling_closes_the_call_at_the_provider_at_once(desk: Desk) -> None:
    took = []
    for _ in range(20):
        shown = asyncio.Event()

        async def consume(shown: asyncio.Event) -> None:
            async with desk.runner.run(replace(TURN, model="script-hang-middle")) as events:
                async for event in events:
                    if isinstance(event, TextGrew):
                        shown.set()

        task = asyncio.create_task(consume(shown))
        async with asyncio.timeout(5):
            await shown.wait()
        began = time.monotonic()
        task.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait({task})
            while desk.traffic.under_way:
                await asyncio.sleep(0.001)
        took.append(time.monotonic() - began)
    print(f"closed within {max(took) * 1000:.1f} ms, median {sorted(took)[10] * 1000:.1f} ms")

    assert sorted(took)[10] < 0.25
    assert max(took) < 1.0  # one of them may meet a busy neighbour
    assert {attempt.outcome for attempt in desk.attempts} == {"cancelled"}
