"""Agents that are functions: what may be one, and that nothing one does gets out of its reply."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from parley.agents import callables
from parley.agents.callables import AgentError, find_callable, load_callable, run_callable
from parley.agents.interface import (
    Event,
    Failed,
    Finished,
    HistoryMessage,
    Source,
    SourcesFound,
    Started,
    TextGrew,
    ToolCalled,
    Turn,
    TurnUser,
)

TURN = Turn(
    UUID(int=1), UUID(int=2), TurnUser(UUID(int=3), "Ada", "user", is_guest=False), [HistoryMessage("user", "?")]
)


async def good(turn: Turn) -> AsyncIterator[Event]:
    yield TextGrew(f"Hello {turn.user.name}")
    yield Finished("stop")


async def hanging(_: Turn) -> AsyncIterator[Event]:
    yield TextGrew("Hello")
    await asyncio.Event().wait()


async def leaving(_: Turn) -> AsyncIterator[Event]:
    yield TextGrew("Hello")
    raise SystemExit


async def cancelling(_: Turn) -> AsyncIterator[Event]:
    yield TextGrew("Hello")
    raise asyncio.CancelledError


async def late(_: Turn) -> AsyncIterator[Event]:
    yield TextGrew("Hello")
    raise TimeoutError


async def greedy(_: Turn, more: str) -> AsyncIterator[Event]:
    yield TextGrew(more)


async def clinging(_: Turn) -> AsyncIterator[Event]:
    try:
        while True:
            yield TextGrew("Hello")
    finally:
        yield TextGrew("still here")


async def failing_at_the_end(_: Turn) -> AsyncIterator[Event]:
    try:
        yield Finished("stop")
    finally:
        raise ValueError("secret")


class Instance:
    async def __call__(self, turn: Turn) -> AsyncIterator[Event]:
        yield Finished("stop")


instance = Instance()


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "agents_of_a_test", sys.modules[__name__])


async def events_of(agent: Any, deadline_s: float = 5.0) -> list[Event]:
    async with asyncio.timeout(10):
        return [event async for event in run_callable(agent, TURN, deadline_s=deadline_s)]


@pytest.mark.parametrize("name", ["good", "instance"])
async def test_an_async_generator_is_found(name: str) -> None:
    agent = await find_callable(f"python:agents_of_a_test:{name}")

    assert (await events_of(agent))[-1] == Finished("stop")


@pytest.mark.parametrize(
    "kind",
    [
        *("", "python:", "python::", "python:os", "python::system", "lang:os:system", "python:.os:system"),
        *("python:os:system", "python:os:nothing", "python:no_such_module_9:x", "python:\0:x", "python:os:\ud800"),
        *("python:agents_of_a_test:Instance", "python:agents_of_a_test:TURN", "python:asyncio:sleep"),
    ],
)
def test_anything_else_is_refused_without_repeating_it(kind: str) -> None:
    with pytest.raises(AgentError) as caught:
        load_callable(kind)

    assert str(caught.value).startswith(("must", "names nothing"))
    assert not any(word in str(caught.value) for word in ("system", "no_such", "test", "Error"))


async def test_a_module_that_ends_the_process_on_import_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "module_that_leaves.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(AgentError, match="nothing that this server can import"):
        await find_callable("python:module_that_leaves:agent")


async def test_an_import_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "module_that_waits.py").write_text("import time\ntime.sleep(1)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(callables, "LOAD_S", 0.05)

    with pytest.raises(AgentError, match="does not end"):
        await find_callable("python:module_that_waits:agent")


@pytest.mark.parametrize("agent", [leaving, cancelling, late, greedy, good.__name__])
async def test_whatever_an_agent_does_is_a_failure_of_its_reply(agent: Any, logs: list[dict[str, Any]]) -> None:
    last = (await events_of(agent))[-1]

    assert isinstance(last, Failed)
    assert (last.code, last.is_retryable) == ("agent_failed", False)
    assert [event["event"] for event in logs] == ["agent_failed"]


async def test_an_agent_that_hangs_ends_at_its_deadline() -> None:
    first, last = await events_of(hanging, deadline_s=0.05)

    assert first == TextGrew("Hello")
    assert isinstance(last, Failed)
    assert (last.code, last.is_retryable) == ("model_deadline", True)


async def test_cancelling_passes_through_an_agent() -> None:
    task = asyncio.create_task(events_of(hanging))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task}, timeout=5)

    assert task.cancelled()


@pytest.mark.parametrize("agent", [clinging, failing_at_the_end])
async def test_an_agent_that_will_not_be_left_is_left(agent: Any, logs: list[dict[str, Any]]) -> None:
    events = run_callable(agent, TURN, deadline_s=5)
    assert isinstance(await anext(events), TextGrew | Finished)
    await events.aclose()

    assert [event["event"] for event in logs] == ["agent_not_closed"]


async def test_every_text_an_agent_yields_can_be_stored() -> None:
    async def odd(_: Turn) -> AsyncIterator[Event]:
        yield ToolCalled("c\0", "look", "La\ud800bel", {"q\0": ["a\0", {"b": 1}]})
        yield SourcesFound([Source(1, "a", "T\0")])
        yield TextGrew("\0")
        yield Finished("stop")

    assert await events_of(odd) == [
        ToolCalled("c", "look", "Label", {"q": ["a", {"b": 1}]}),
        SourcesFound([Source(1, "a", "T")]),
        Finished("stop"),
    ]


async def test_short_texts_are_as_short_as_they_are_stored() -> None:
    async def wordy(_: Turn) -> AsyncIterator[Event]:
        yield Started("a" * 65, 1, "m" * 129, "")
        yield Failed("c" * 65, "Everything that could be said. " * 30, is_retryable=False)

    started, failed = await events_of(wordy)
    assert isinstance(started, Started)
    assert (len(started.agent), len(started.model)) == (64, 128)
    assert isinstance(failed, Failed)
    assert (len(failed.code), len(failed.message)) == (64, 500)
