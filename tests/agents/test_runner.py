"""The runner: real tools and real loop, a scripted model at the port, and what a consumer sees of it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from tests.agents.doubles import Restarting, Said, Scripted, calls, text

from parley.agents.clients.port import BUSY, SILENT, TOO_LONG, ModelError, TextDelta, Usage
from parley.agents.definition import AgentDefinition, AgentLimits, AgentModels, default_definition
from parley.agents.direct import Direct
from parley.agents.interface import (
    Attempt,
    Call,
    Event,
    Failed,
    Finished,
    HistoryMessage,
    Restarted,
    Result,
    SourcesFound,
    Started,
    StatusChanged,
    Step,
    StepDecided,
    StepFinished,
    TextGrew,
    ToolCalled,
    ToolFinished,
    Turn,
    TurnUser,
)
from parley.agents.knowledge import SampleKnowledge, load_samples
from parley.agents.runner import Models, Runner
from parley.agents.tools.current_time import current_time
from parley.agents.tools.handoff import handoff_to_human
from parley.agents.tools.outcome import Dependencies, ToolContext
from parley.agents.tools.registry import Registry, tool
from parley.agents.tools.search_knowledge import search_knowledge
from parley.core.clock import SystemClock

CLOCK = SystemClock()
TURN = Turn(
    conversation_id=UUID(int=1),
    message_id=UUID(int=2),
    user=TurnUser(UUID(int=3), "Ada", "user", is_guest=False),
    history=[HistoryMessage("user", "How do I return a jacket?")],
)
SEARCH = ("search_knowledge", '{"query": "return jacket"}')


class Effects:
    """Tools that show what happens to them."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.running = 0
        self.gate = asyncio.Event()


@tool(label="Booking")
async def book(context: ToolContext, n: int = 1) -> str:
    """Book something."""
    context.dependencies.extra["effects"].keys.append(context.idempotency_key)
    return f"booked {n}"


@tool(label="Waiting", is_public=True)
async def wait(context: ToolContext, name: str = "") -> str:
    """Wait until let go."""
    effects = context.dependencies.extra["effects"]
    effects.running += 1
    try:
        await effects.gate.wait()
    finally:
        effects.running -= 1
    return name


@tool(label="Failing")
async def crash() -> str:
    """Fail."""
    raise ValueError("secret of the inside")


@pytest.fixture(scope="module")
def knowledge() -> SampleKnowledge:
    return load_samples()


@pytest.fixture(scope="module")
def agent() -> AgentDefinition:
    definition = default_definition()
    return replace(definition, tools=(*definition.tools, "book", "wait", "crash"))


@pytest.fixture
def effects() -> Effects:
    return Effects()


@pytest.fixture
def attempts() -> list[Attempt]:
    return []


MakeRunner = Callable[..., Runner]


@pytest.fixture
def make(knowledge: SampleKnowledge, agent: AgentDefinition, effects: Effects, attempts: list[Attempt]) -> MakeRunner:
    tools = [search_knowledge, current_time, handoff_to_human, book, wait, crash]

    def runner(*scripts: Sequence[Said], via: Models | None = None, **changes: Any) -> Runner:
        async def find(name: str | None) -> AgentDefinition | None:
            return replace(agent, **changes) if name in {None, agent.name} else None

        return Runner(
            models=via or Direct(Scripted(*scripts), "double", CLOCK),
            tools=Registry.of(tools, Dependencies(knowledge, CLOCK, {"effects": effects})),
            find_agent=find,
            clock=CLOCK,
            configured_model="large",
            price=lambda _, __, usage: usage.completion_tokens / 1000,
            record=lambda _, attempt: attempts.append(attempt),
        )

    return runner


async def events_of(runner: Runner, turn: Turn = TURN) -> list[Event]:
    async with runner.run(turn) as events, asyncio.timeout(10):
        return [event async for event in events]


def kinds(events: Sequence[Event]) -> list[str]:
    return [type(event).__name__ for event in events if not isinstance(event, StatusChanged)]


def text_of(events: Sequence[Event]) -> str:
    shown = ""
    for event in events:
        shown = "" if isinstance(event, Restarted) else shown + event.text if isinstance(event, TextGrew) else shown
    return shown


async def test_an_answer_is_told_as_it_grows(make: MakeRunner) -> None:
    events = await events_of(make(text("Send it ", "back.", usage=Usage(100, 7, 3))))

    assert kinds(events) == ["Started", "TextGrew", "TextGrew", "Finished"]
    assert events[0] == Started("support", 1, "large", "only_model")
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.finish_reason == "stop"
    (attempt,) = last.attempts
    assert (attempt.model, attempt.outcome, attempt.prompt_tokens, attempt.completion_tokens) == ("large", "ok", 100, 7)
    assert (attempt.is_estimated, attempt.cost_usd) == (False, 0.007)
    assert attempt.first_token_s is not None
    assert attempt.total_s >= attempt.first_token_s


async def test_one_read_of_the_provider_is_one_event(make: MakeRunner) -> None:
    script: list[Said] = [[TextDelta("a"), TextDelta("b"), TextDelta("c")], *text("d")]

    assert [e.text for e in await events_of(make(script)) if isinstance(e, TextGrew)] == ["abc", "d"]


async def test_tools_are_shown_sources_numbered_and_the_answer_goes_on_in_a_new_paragraph(make: MakeRunner) -> None:
    model = Scripted(calls(SEARCH, said="Let me look."), text("Send it back [1]."))
    events = await events_of(make(via=Direct(model, "double", CLOCK)))

    assert kinds(events) == [
        "Started",
        "TextGrew",
        "StepDecided",
        "ToolCalled",
        "ToolFinished",
        "SourcesFound",
        "StepFinished",
        "TextGrew",
        "Finished",
    ]
    assert text_of(events) == "Let me look.\n\nSend it back [1]."
    assert ToolCalled("call_0", "search_knowledge", "Searching the help articles", {"query": "return jacket"}) in events
    (found,) = [event for event in events if isinstance(event, SourcesFound)]
    assert [source.number for source in found.sources] == list(range(1, len(found.sources) + 1))
    messages = model.requests[1].messages
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool"]
    assert json.loads(messages[3]["content"])["results"][0]["number"] == 1
    assert "Ada" in messages[0]["content"]
    assert [offer["function"]["name"] for offer in model.requests[0].tools][:1] == ["search_knowledge"]


async def test_a_decided_step_is_handed_out_before_anything_runs(make: MakeRunner, effects: Effects) -> None:
    async with make(calls(("book", "{}")), text("Done.")).run(TURN) as events:
        async for event in events:
            if isinstance(event, StepDecided):
                await asyncio.sleep(0.01)
                assert effects.keys == []
            if isinstance(event, ToolFinished):
                assert effects.keys == [f"{TURN.message_id}:call_0"]


async def test_tools_of_one_round_run_at_once_and_are_told_as_they_end(make: MakeRunner, effects: Effects) -> None:
    wanted = calls(("wait", '{"name": "a"}'), ("wait", '{"name": "b"}'), ("current_time", "{}"))
    ended = []
    async with make(wanted, text("Done.")).run(TURN) as events, asyncio.timeout(10):
        async for event in events:
            if isinstance(event, ToolFinished):
                ended.append(event.call_id)
                assert effects.running == (2 if len(ended) == 1 else effects.running)
                effects.gate.set()
            if isinstance(event, StepFinished):
                assert [result.call_id for result in event.step.results or ()] == ["call_0", "call_1", "call_2"]
    assert ended[0] == "call_2"


async def test_a_failing_and_an_unknown_tool_are_told_to_the_model_only(make: MakeRunner) -> None:
    events = await events_of(make(calls(("crash", "{}"), ("rm", "{}"), ("book", "[")), text("Sorry.")))

    (finished,) = [event for event in events if isinstance(event, StepFinished)]
    assert all(not result.is_ok and "error" in json.loads(result.content) for result in finished.step.results or ())
    assert "secret" not in str(finished)
    assert [(event.name, event.arguments) for event in events if isinstance(event, ToolCalled)] == [
        ("crash", None),
        ("book", None),
    ]
    assert isinstance(events[-1], Finished)


async def test_a_tool_that_hangs_ends_at_the_agents_deadline(make: MakeRunner) -> None:
    limits = AgentLimits(tool_deadline_s=0.05)
    events = await events_of(make(calls(("wait", "{}")), text("Sorry."), limits=limits))

    assert ToolFinished("call_0", is_ok=False, summary="") in events
    assert text_of(events) == "Sorry."


async def test_a_model_that_only_calls_tools_is_ended_by_the_step_limit(make: MakeRunner) -> None:
    model = Scripted(*(calls(("book", f'{{"n": {n}}}')) for n in range(50)))
    events = await events_of(make(via=Direct(model, "double", CLOCK), limits=AgentLimits(max_steps=3)))

    assert isinstance(events[-1], Finished)
    assert events[-1].finish_reason == "step_limit"
    assert len(model.requests) == 4
    assert "Answer now" in model.requests[3].messages[-1]["content"]


async def test_no_round_begins_after_the_replys_deadline(make: MakeRunner) -> None:
    runner = make(calls(("book", "{}")), text("Never."), limits=AgentLimits(reply_deadline_s=0.0))
    events = await events_of(runner)

    assert isinstance(events[-1], Finished)
    assert events[-1].finish_reason == "step_limit"


async def test_a_handoff_ends_the_reply(make: MakeRunner) -> None:
    events = await events_of(make(calls(("handoff_to_human", '{"reason": "asked for a person"}')), text("Never.")))

    assert isinstance(events[-1], Finished)
    assert events[-1].finish_reason == "handoff"
    assert text_of(events) == ""


@pytest.mark.parametrize("is_retryable", [True, False])
async def test_a_models_failure_is_a_sentence_without_what_the_provider_said(
    make: MakeRunner, is_retryable: bool
) -> None:
    script: list[Said] = [[TextDelta("Half an")], ModelError(SILENT, is_retryable=is_retryable, detail="key sk-1")]
    events = await events_of(make(script))

    last = events[-1]
    assert isinstance(last, Failed)
    assert (last.code, last.is_retryable, text_of(events)) == (SILENT, is_retryable, "Half an")
    assert "sk-1" not in str(last)
    (attempt,) = last.attempts
    assert (attempt.outcome, attempt.is_estimated) == (SILENT, True)
    assert attempt.prompt_tokens > 50
    assert attempt.completion_tokens >= 2


async def test_a_model_without_a_word_fails_the_reply(make: MakeRunner) -> None:
    last = (await events_of(make(text())))[-1]

    assert isinstance(last, Failed)
    assert (last.code, last.is_retryable) == ("model_empty", True)


async def test_a_used_up_budget_ends_the_reply_by_its_name(make: MakeRunner) -> None:
    last = (await events_of(make([[TextDelta("Half")], ModelError("budget_exceeded")])))[-1]

    assert isinstance(last, Finished)
    assert last.finish_reason == "budget_exceeded"


async def test_an_answer_that_breaks_off_begins_anew_on_the_next_model(make: MakeRunner) -> None:
    large = Scripted(calls(SEARCH, said="Let me look."), [[TextDelta("Half an ans")], ModelError(SILENT)])
    other = Scripted(text("Send it back [1]."))
    runner = make(via=Restarting({"large": large, "other": other}, CLOCK), models=AgentModels(fallbacks=("other",)))
    events = await events_of(runner)

    told = kinds(events)
    again = told[told.index("Restarted") :]
    assert again == [
        "Restarted",
        "Started",
        "TextGrew",
        "ToolCalled",
        "ToolFinished",
        "SourcesFound",
        "TextGrew",
        "Finished",
    ]
    assert text_of(events) == "Let me look.\n\nSend it back [1]."
    assert Started("support", 1, "other", "fallback") in events
    last = events[-1]
    assert isinstance(last, Finished)
    assert [(attempt.model, attempt.outcome) for attempt in last.attempts] == [
        ("large", "ok"),
        ("large", SILENT),
        ("other", "ok"),
    ]


async def test_leaving_the_block_closes_the_model_and_books_the_attempt(
    make: MakeRunner, attempts: list[Attempt]
) -> None:
    model = Scripted([[TextDelta("Half an answer")], None])
    async with make(via=Direct(model, "double", CLOCK)).run(TURN) as events:
        async for event in events:
            if isinstance(event, TextGrew):
                assert model.open == 1
                break

    assert model.open == 0
    assert [(attempt.outcome, attempt.is_estimated) for attempt in attempts] == [("cancelled", True)]
    assert attempts[0].completion_tokens == 4


async def test_cancelling_ends_a_silent_model_and_running_tools_at_once(
    make: MakeRunner, effects: Effects, attempts: list[Attempt]
) -> None:
    model = Scripted(calls(("wait", "{}")), [None])

    async def consume() -> None:
        await events_of(make(via=Direct(model, "double", CLOCK)))

    for is_tool in (True, False):
        task = asyncio.create_task(consume())
        while not (effects.running if is_tool else len(model.requests) == 2 and model.open):
            await asyncio.sleep(0.001)
        task.cancel()
        began = CLOCK.monotonic()
        await asyncio.wait({task})
        assert task.cancelled()
        assert CLOCK.monotonic() - began < 1
        assert (model.open, effects.running) == (0, 0)
    assert attempts[-1].outcome == "cancelled"


FOUND = Step(
    "Let me look.",
    (Call("call_0", *SEARCH),),
    (
        Result(
            "call_0",
            is_ok=True,
            content='{"results": [{"number": 1, "id": "a", "title": "A", "url": null, "text": "Send it."}]}',
            summary="Found 1 article",
        ),
    ),
)


async def test_a_takeover_tells_the_finished_steps_again_and_goes_on(make: MakeRunner) -> None:
    model = Scripted(text("Send it [1]."))
    events = await events_of(make(via=Direct(model, "double", CLOCK)), replace(TURN, steps=[FOUND]))

    assert kinds(events) == [
        "Started",
        "TextGrew",
        "ToolCalled",
        "ToolFinished",
        "SourcesFound",
        "TextGrew",
        "Finished",
    ]
    assert text_of(events) == "Let me look.\n\nSend it [1]."
    assert ToolFinished("call_0", is_ok=True, summary="Found 1 article") in events
    assert [message["role"] for message in model.requests[0].messages] == ["system", "user", "assistant", "tool"]


async def test_a_takeover_runs_a_decided_call_again_under_its_key_only_if_that_does_no_harm(
    make: MakeRunner, effects: Effects
) -> None:
    decided = Step("Moment.", (Call("s1", *SEARCH), Call("b1", "book", "{}")))
    events = await events_of(make(text("Done.")), replace(TURN, steps=[FOUND, decided]))

    assert effects.keys == []
    assert kinds(events).count("StepDecided") == 0
    (finished,) = [event for event in events if isinstance(event, StepFinished)]
    assert [result.is_ok for result in finished.step.results or ()] == [True, False]
    assert "may or may not" in (finished.step.results or ())[1].content
    # Sources are numbered on behind those of the step before.
    numbers = [source.number for event in events if isinstance(event, SourcesFound) for source in event.sources]
    assert numbers == list(range(1, len(numbers) + 1))
    assert text_of(events) == "Let me look.\n\nMoment.\n\nDone."


async def test_an_unknown_agent_is_a_failure(make: MakeRunner) -> None:
    (last,) = await events_of(make(text("Never.")), replace(TURN, agent="nobody"))

    assert isinstance(last, Failed)
    assert last.code == "agent_unknown"


async def test_a_busy_provider_fails_the_reply_and_says_that_it_may_be_tried_again(make: MakeRunner) -> None:
    for code in (BUSY, TOO_LONG):
        (last,) = [e for e in await events_of(make([ModelError(code, is_retryable=True)])) if isinstance(e, Failed)]
        assert (last.code, last.is_retryable) == (code, True)


async def greeter(turn: Turn) -> AsyncIterator[Event]:
    yield TextGrew("Hel\0lo")
    yield TextGrew("\0")
    yield TextGrew(f" {turn.user.name}")
    yield Finished("stop")
    yield TextGrew("never told")


async def breaker(turn: Turn) -> AsyncIterator[Event]:
    yield TextGrew("Hello")
    raise ValueError("secret of the inside")


async def quitter(turn: Turn) -> AsyncIterator[Event]:
    yield TextGrew("Hello")


async def stranger(turn: Turn) -> AsyncIterator[Any]:
    yield "Hello"


def of_this_file(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "agents_of_a_test", sys.modules[__name__])
    return f"python:agents_of_a_test:{name}"


async def test_an_agent_may_be_a_function(make: MakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    events = await events_of(make(kind=of_this_file("greeter", monkeypatch)))

    assert kinds(events) == ["Started", "TextGrew", "TextGrew", "Finished"]
    assert text_of(events) == "Hello Ada"


@pytest.mark.parametrize("name", ["breaker", "quitter", "stranger"])
async def test_a_function_that_misbehaves_fails_the_reply(
    make: MakeRunner, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    last = (await events_of(make(kind=of_this_file(name, monkeypatch))))[-1]

    assert isinstance(last, Failed)
    assert (last.code, "secret" in str(last)) == ("agent_failed", False)


@pytest.mark.parametrize(
    "kind", ["python:os:system", "python:no_such_module:x", "python:os:nothing", "python:", "lang:a:b"]
)
async def test_nothing_but_an_async_generator_is_ever_called(make: MakeRunner, kind: str) -> None:
    (last,) = await events_of(make(kind=kind))

    assert isinstance(last, Failed)
    assert last.code == "agent_failed"
