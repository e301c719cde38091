"""The tools by name: offers them to a model and runs what it calls, each within its deadline and size.

Decides nothing about when a call is made or repeated: that is the loop's.
"""

import asyncio
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import structlog
from pydantic_core import to_json

from parley.agents.interface import Call, Turn
from parley.agents.knowledge import Passage
from parley.agents.tools.outcome import Dependencies, Ran, ToolContext, ToolMistake, ToolOutcome
from parley.agents.tools.schema import Parameters
from parley.agents.tools.threads import Threads

log = structlog.get_logger(__name__)

RESULT_CHARS = 16_000  # about 4,000 tokens: several results fit beside a conversation
SUMMARY_CHARS = 200  # one line on a screen
MOST_SOURCES = 20  # more than anybody reads
THREADS = 8  # a handful of slow tools at once per worker; more wait for their turn within their deadline
DEADLINE_S = 10.0  # somebody watches an empty reply meanwhile
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")  # what the protocol allows
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_FAULT = "The tool failed. Do not call it again for this; go on without it and say so."


@dataclass(frozen=True, slots=True)
class Tool:
    """A function a model may call."""

    name: str
    label: str
    """What it does, for the person who waits."""
    function: Callable[..., Any]
    parameters: Parameters
    is_idempotent: bool
    """Whether running it twice under one key is as good as once: only then a takeover repeats it."""
    is_public: bool
    """Whether arguments and summary may be shown to viewers."""
    deadline_s: float

    @property
    def offer(self) -> dict[str, Any]:
        """The tool in the words of Chat Completions."""
        about = {"name": self.name, "description": self.parameters.description}
        return {"type": "function", "function": {**about, "parameters": self.parameters.json_schema}}


def tool(
    *,
    label: str,
    is_idempotent: bool = False,
    is_public: bool = False,
    deadline_s: float = DEADLINE_S,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Tool]:
    """Make a function a tool; its signature and docstring are the schema. Unless said, it is neither public nor safe.

    A first parameter of type ToolContext is filled by us. A plain function runs in a thread; nothing tells it that its
    deadline has passed, so it must end by itself.
    """

    def make(function: Callable[..., Any]) -> Tool:
        called = name or function.__name__
        if not _NAME.match(called):
            raise ValueError(f"not a name for a tool: {called!r}")
        return Tool(called, label, function, Parameters(function), is_idempotent, is_public, deadline_s)

    return make


@dataclass(frozen=True, slots=True)
class Registry:
    """The tools of this service. One per worker, made in its loop's lifetime."""

    tools: Mapping[str, Tool]
    dependencies: Dependencies
    threads: Threads = field(default_factory=lambda: Threads(THREADS))

    @classmethod
    def of(cls, tools: Iterable[Tool], dependencies: Dependencies) -> "Registry":
        """Build a registry; two tools of one name are a mistake."""
        by_name: dict[str, Tool] = {}
        for one in tools:
            if by_name.setdefault(one.name, one) is not one:
                raise ValueError(f"two tools are called {one.name}")
        return cls(by_name, dependencies)

    def find(self, name: str) -> Tool | None:
        """Return the tool of that name, if there is one."""
        return self.tools.get(name)

    def offers(self, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Return what the model is offered: all tools, or those of an agent; names nobody knows are left out."""
        wanted = self.tools if names is None else names
        return [found.offer for name in wanted if (found := self.tools.get(name)) is not None]

    def context(self, turn: Turn) -> ToolContext:
        """Return for whom the calls of a turn run."""
        return ToolContext(turn.user, turn.conversation_id, turn.message_id, self.dependencies)

    def shown_arguments(self, call: Call) -> Mapping[str, Any] | None:
        """Return what viewers may see of a call: nothing unless the tool is public and the arguments are valid."""
        found = self.tools.get(call.name)
        if found is None or not found.is_public:
            return None
        try:
            return found.parameters.show(call.arguments)
        except ToolMistake:
            return None

    async def run(self, call: Call, context: ToolContext, *, allowed: Sequence[str] | None = None) -> Ran:
        """Run one call to its result. Raises nothing but cancellation; `allowed` are the names the agent may use."""
        found = self.tools.get(call.name)
        if found is None or (allowed is not None and call.name not in allowed):
            return _failed(call, "There is no tool of this name. Use one of the offered tools.")
        deadline = asyncio.timeout(found.deadline_s)
        try:
            values = found.parameters.parse(call.arguments)
            async with deadline:
                outcome = await self._call(found, replace(context, call_id=call.call_id), values)
            return _finished(call, found, outcome)
        except ToolMistake as mistake:
            return _failed(call, str(mistake))
        except (asyncio.CancelledError, SystemExit) as error:
            # Ours passes through; what the tool has done to itself is its fault, and never ends the worker.
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            log.exception("tool_failed", tool=found.name)
            return _failed(call, _FAULT)
        except Exception as error:  # a tool may fail in any way it can; the reply goes on without it
            if isinstance(error, TimeoutError) and deadline.expired():
                log.warning("tool_timed_out", tool=found.name, deadline_s=found.deadline_s)
                return _failed(call, "The tool took too long. Go on without it and say so.")
            log.exception("tool_failed", tool=found.name)
            return _failed(call, _FAULT)

    async def _call(self, found: Tool, context: ToolContext, values: Mapping[str, Any]) -> Any:
        given = (context,) if found.parameters.takes_context else ()
        if inspect.iscoroutinefunction(found.function):
            return await found.function(*given, **values)
        return await self.threads.run(found.name, lambda: found.function(*given, **values))


def _finished(call: Call, found: Tool, outcome: Any) -> Ran:
    if not isinstance(outcome, ToolOutcome):
        outcome = ToolOutcome(outcome if isinstance(outcome, str) else to_json(outcome).decode())
    summary = " ".join(_storable(outcome.summary[: 2 * SUMMARY_CHARS]).split())[:SUMMARY_CHARS]
    sources = None if outcome.sources is None else _fit(outcome.sources)
    return Ran(
        call_id=call.call_id,
        is_ok=True,
        content="" if sources is not None else cut(_storable(outcome.content)),
        summary=summary if found.is_public else "",
        sources=sources,
        is_handoff=outcome.is_handoff,
    )


def _failed(call: Call, sentence: str) -> Ran:
    """Return a failure in the one form that is told apart from a result: an object with `error`."""
    return Ran(call.call_id, is_ok=False, content=orjson.dumps({"error": cut(_storable(sentence))}).decode())


def _fit(sources: Sequence[Passage]) -> list[Passage]:
    """Give each source its share of the size, what a short one leaves to those behind it."""
    fitted: list[Passage] = []
    left, waiting = RESULT_CHARS, list(sources[:MOST_SOURCES])
    while waiting:
        passage = waiting.pop(0)
        text = cut(_storable(passage.text), left // (len(waiting) + 1))
        left -= len(text)
        url = None if passage.url is None else _storable(passage.url[:500])
        fitted.append(Passage(_storable(passage.id[:100]), _storable(passage.title[:200]), text, url, passage.score))
    return fitted


def cut(text: str, limit: int = RESULT_CHARS) -> str:
    """Return the text within the limit; what was cut is said, so that the model does not take it for the whole."""
    if len(text) <= limit:
        return text
    note = f"\n[cut: the first {limit} of {len(text)} characters]"
    return text[: max(0, limit - len(note))] + note


def _storable(text: str) -> str:
    """Return what can be stored and sent: results come from anywhere."""
    return _UNSTORABLE.sub("\ufffd", text)
