"""Running what a model calls: by its rights, within its deadline and size, and never to anybody else's harm."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from parley.agents.interface import Call
from parley.agents.knowledge import Passage
from parley.agents.tools.outcome import ToolContext, ToolMistake, ToolOutcome
from parley.agents.tools.registry import RESULT_CHARS, THREADS, Registry, tool

RegistryOf = Callable[..., Registry]


def call(name: str, call_id: str = "call_1", **arguments: Any) -> Call:
    return Call(call_id, name, json.dumps(arguments))


def error_of(content: str) -> str:
    return str(json.loads(content)["error"])


@tool(label="Echoing", is_idempotent=True, is_public=True)
async def echo(context: ToolContext, word: str, times: int = 1) -> ToolOutcome:
    """Say it again."""
    return ToolOutcome(f"{context.user.name}: {word * times}", summary=f"said\n it {times} times")


async def test_a_call_runs_with_the_rights_of_the_user_and_under_its_own_key(
    registry_of: RegistryOf, context: ToolContext
) -> None:
    seen: list[ToolContext] = []

    @tool(label="Looking")
    async def look(context: ToolContext) -> str:
        """Look."""
        seen.append(context)
        return str(context.dependencies.extra["greeting"])

    ran = await registry_of(look).run(call("look", "call_7"), context)

    assert (ran.is_ok, ran.content, ran.call_id) == (True, "moin", "call_7")
    assert seen[0].user is context.user
    assert seen[0].idempotency_key == f"{context.message_id}:call_7"


async def test_the_model_cannot_be_somebody_else(registry_of: RegistryOf, context: ToolContext) -> None:
    registry = registry_of(echo)
    for forged in ({"context": {"user": "root"}}, {"user_id": "1"}, {"user": "root"}, {"conversation_id": "x"}):
        ran = await registry.run(call("echo", word="hi", **forged), context)
        assert not ran.is_ok
        assert "do not fit" in error_of(ran.content)


def test_a_key_is_short_and_plain_whatever_the_model_calls_its_call(context: ToolContext) -> None:
    keys = [
        replace(context, call_id=call_id).idempotency_key
        for call_id in ("", "a" * 10_000, "x\x00y", "\ud800", "a:b", "{1}", "call_1", "call_1\n")
    ]

    assert len(set(keys)) == len(keys)
    assert all(len(key) <= 110 and key.isascii() and key.isprintable() for key in keys)


def test_tools_are_offered_as_the_protocol_has_it(registry_of: RegistryOf) -> None:
    registry = registry_of(echo)

    (offer,) = registry.offers()
    assert offer["type"] == "function"
    assert offer["function"]["name"] == "echo"
    assert offer["function"]["parameters"]["required"] == ["word"]
    assert registry.offers(["echo", "nobody"]) == [offer]
    assert registry.offers([]) == []


def test_arguments_are_shown_only_of_public_tools_and_valid_calls(registry_of: RegistryOf) -> None:
    @tool(label="Whispering")
    async def whisper(word: str) -> str:
        """Whisper."""
        return word

    registry = registry_of(echo, whisper)

    assert registry.shown_arguments(call("echo", word="hi")) == {"word": "hi"}
    assert registry.shown_arguments(call("echo", word=3)) is None
    assert registry.shown_arguments(call("whisper", word="hi")) is None
    assert registry.shown_arguments(call("nobody")) is None


async def test_the_summary_is_one_line_and_of_public_tools_only(registry_of: RegistryOf, context: ToolContext) -> None:
    @tool(label="Whispering")
    async def whisper() -> ToolOutcome:
        """Whisper."""
        return ToolOutcome("x", "the password is 1234")

    registry = registry_of(echo, whisper)

    assert (await registry.run(call("echo", word="a"), context)).summary == "said it 1 times"
    assert (await registry.run(call("whisper"), context)).summary == ""


@pytest.mark.parametrize("name", ["", "ECHO", "echo ", "__init__", "x" * 100_000, "\x00", "\ud800", "nobody"])
async def test_a_tool_that_is_not_there_can_be_mended(registry_of: RegistryOf, context: ToolContext, name: str) -> None:
    ran = await registry_of(echo).run(Call("c", name, "{}"), context)

    assert not ran.is_ok
    assert "no tool of this name" in error_of(ran.content)


async def test_a_tool_the_agent_may_not_use_is_not_there(registry_of: RegistryOf, context: ToolContext) -> None:
    ran = await registry_of(echo).run(call("echo", word="a"), context, allowed=["other"])

    assert "no tool of this name" in error_of(ran.content)


async def test_a_mistake_is_told_and_a_fault_is_logged_and_neutral(
    registry_of: RegistryOf, context: ToolContext, logs: list[dict[str, Any]]
) -> None:
    @tool(label="Mistaking")
    async def mistake() -> str:
        """Mistake."""
        raise ToolMistake("There is no order 17\x00; ask for another.")

    @tool(label="Breaking")
    def break_() -> str:
        """Break."""
        raise RuntimeError("password=1234 at /etc/secret")

    registry = registry_of(mistake, break_)
    mended = await registry.run(call("mistake"), context)
    broken = await registry.run(call("break_"), context)

    assert error_of(mended.content) == "There is no order 17\ufffd; ask for another."
    assert not broken.is_ok
    assert "1234" not in broken.content
    assert "failed" in error_of(broken.content)
    assert [event["tool"] for event in logs if event["event"] == "tool_failed"] == ["break_"]


WRONG = [StopIteration, StopAsyncIteration, KeyError, TimeoutError, RecursionError, SystemExit, asyncio.CancelledError]


@pytest.mark.parametrize("wrong", WRONG)
async def test_whatever_a_tool_raises_is_a_fault(
    registry_of: RegistryOf, context: ToolContext, wrong: type[BaseException]
) -> None:
    @tool(label="Breaking")
    def plain() -> str:
        """Break."""
        raise wrong

    @tool(label="Breaking")
    async def awaited() -> str:
        """Break."""
        raise wrong

    registry = registry_of(plain, awaited)
    for name in ("plain", "awaited"):
        ran = await registry.run(call(name), context)
        assert not ran.is_ok
        assert "failed" in error_of(ran.content)


async def test_a_deadline_ends_a_tool(
    registry_of: RegistryOf, context: ToolContext, logs: list[dict[str, Any]]
) -> None:
    ended = asyncio.Event()

    @tool(label="Hanging", deadline_s=0.05)
    async def hang() -> str:
        """Hang."""
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    started = time.monotonic()
    ran = await registry_of(hang).run(call("hang"), context)

    assert "too long" in error_of(ran.content)
    assert ended.is_set()
    assert time.monotonic() - started < 1
    assert [event["event"] for event in logs] == ["tool_timed_out"]


async def test_a_tool_that_blocks_blocks_only_its_thread(registry_of: RegistryOf, context: ToolContext) -> None:
    let_go = threading.Event()

    @tool(label="Blocking", deadline_s=0.2)
    def block() -> str:
        """Block."""
        let_go.wait(10)
        return "done"

    registry = registry_of(block)
    running = asyncio.gather(*(registry.run(call("block", f"c{at}"), context) for at in range(THREADS * 2)))
    turns = 0
    while not running.done():
        await asyncio.sleep(0.01)
        turns += 1
    results = await running
    let_go.set()

    assert turns >= 5
    assert ["too long" in error_of(ran.content) for ran in results] == [True] * (THREADS * 2)
    # The stuck threads end, and their places are free again.
    await asyncio.sleep(0.05)
    let_go.set()
    assert (await registry.run(call("block"), context)).content == "done"


async def test_no_more_threads_run_than_there_are_places(registry_of: RegistryOf, context: ToolContext) -> None:
    now, most, lock = 0, 0, threading.Lock()

    @tool(label="Working")
    def work() -> str:
        """Work."""
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.02)
        with lock:
            now -= 1
        return "done"

    registry = registry_of(work)
    results = await asyncio.gather(*(registry.run(call("work", f"c{at}"), context) for at in range(THREADS * 3)))

    assert {ran.content for ran in results} == {"done"}
    assert 1 < most <= THREADS


async def test_cancellation_passes_through(registry_of: RegistryOf, context: ToolContext) -> None:
    let_go, begun = threading.Event(), threading.Event()

    @tool(label="Blocking")
    def block() -> str:
        """Block."""
        begun.set()
        let_go.wait(10)
        return ""

    @tool(label="Hanging")
    async def hang() -> str:
        """Hang."""
        begun.set()
        await asyncio.Event().wait()
        return ""

    registry = registry_of(block, hang)
    for name in ("block", "hang"):
        begun.clear()
        task = asyncio.create_task(registry.run(call(name), context))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    let_go.set()


async def test_a_result_is_cut_visibly_and_made_storable(registry_of: RegistryOf, context: ToolContext) -> None:
    @tool(label="Flooding")
    async def flood() -> str:
        """Flood."""
        return "a\x00\ud800b" + "x" * 1_000_000

    ran = await registry_of(flood).run(call("flood"), context)

    assert len(ran.content) == RESULT_CHARS
    assert ran.content.startswith("a\ufffd\ufffdbx")
    assert ran.content.endswith(f"[cut: the first {RESULT_CHARS} of 1000004 characters]")


async def test_sources_share_the_size(registry_of: RegistryOf, context: ToolContext) -> None:
    @tool(label="Finding")
    async def find() -> ToolOutcome:
        """Find."""
        long = Passage("long\x00", "T" * 1_000, "x" * 100_000, "https://x.example/" + "y" * 10_000)
        return ToolOutcome(sources=[Passage("short", "Short", "abc"), *[long] * 50])

    ran = await registry_of(find).run(call("find"), context)

    assert ran.sources is not None
    assert 0 < len(ran.sources) <= 20
    assert ran.sources[0].text == "abc"
    assert "[cut:" in ran.sources[1].text
    assert sum(len(source.text) for source in ran.sources) <= RESULT_CHARS
    assert max(len(source.title) + len(source.url or "") for source in ran.sources) <= 700
    assert "\x00" not in ran.sources[1].id


@pytest.mark.parametrize(
    ("value", "content"), [("text", "text"), ({"a": [1]}, '{"a":[1]}'), (None, "null"), (b"x", '"x"'), ([], "[]")]
)
async def test_a_plain_value_is_told_as_json(
    registry_of: RegistryOf, context: ToolContext, value: Any, content: str
) -> None:
    @tool(label="Giving")
    async def give() -> Any:
        """Give."""
        return value

    assert (await registry_of(give).run(call("give"), context)).content == content


async def test_a_value_that_cannot_be_told_is_a_fault(registry_of: RegistryOf, context: ToolContext) -> None:
    @tool(label="Giving")
    async def give() -> Any:
        """Give."""
        return object()

    assert "failed" in error_of((await registry_of(give).run(call("give"), context)).content)


async def test_a_thousand_hostile_calls_leave_nothing_behind(registry_of: RegistryOf, context: ToolContext) -> None:
    registry = registry_of(echo)
    hostile = ["{" * 1_000, '{"word": 1}', '{"word": "\\u0000"}', "\ud800", "[]", '{"word": "a", "times": 1e9}']
    threads = threading.active_count()

    for at in range(1_000):
        ran = await registry.run(Call("same", "echo", hostile[at % len(hostile)]), context)
        assert not ran.is_ok
        assert len(ran.content) < 1_000
    assert threading.active_count() == threads


def test_two_tools_of_one_name_and_odd_names_are_refused(registry_of: RegistryOf) -> None:
    with pytest.raises(ValueError, match="two tools"):
        registry_of(echo, tool(label="x", name="echo")(echo.function))
    with pytest.raises(ValueError, match="not a name"):
        tool(label="x", name="no name")(echo.function)


def test_unless_said_a_tool_is_neither_public_nor_repeated() -> None:
    made = tool(label="x")(echo.function)

    assert not made.is_public
    assert not made.is_idempotent
