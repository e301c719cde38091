"""Runs a compiled LangGraph graph as an agent: its tokens and tool calls become our events. Needs its extra.

Nothing of Parley imports this: the module that an agent's kind names does, and is then on its own with models, prices
and budgets. A graph keeps its rounds in the key `messages`, as LangGraph's own do.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage, ToolMessage, convert_to_messages
from langgraph.errors import GraphRecursionError
from langgraph.graph.state import CompiledStateGraph

from parley.agents.context import build_context
from parley.agents.failures import fail
from parley.agents.interface import (
    Call,
    Event,
    Finished,
    Result,
    Step,
    StepDecided,
    StepFinished,
    TextGrew,
    ToolCalled,
    ToolFinished,
    Turn,
)
from parley.agents.loop import EMPTY, error_content, join_round
from parley.agents.tools.registry import cut
from parley.agents.tools.schema import showable

ROUNDS = 25  # of a graph's nodes: as many as LangGraph itself allowed before it stopped to count
CONTEXT_TOKENS = 16_000  # as an agent of our own has
INTERRUPTED = (
    "This call was started and interrupted: it may or may not have taken effect. Do not call it again before you know; "
    "if you cannot find out, tell the user."
)
_CUTS: Mapping[str, Literal["length", "content_filter"]] = {
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}


@dataclass(frozen=True, slots=True)
class GraphTool:
    """A tool of the graph as viewers see it; those that are not declared are never shown."""

    label: str
    is_public: bool = False
    """Whether its arguments may be shown."""
    is_handoff: bool = False
    """Whether its success ends the reply, because a person takes over."""


def langgraph_agent(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    *,
    instructions: str = "",
    tools: Mapping[str, GraphTool] | None = None,
    answer_nodes: Collection[str] | None = None,
    max_rounds: int = ROUNDS,
    context_tokens: int = CONTEXT_TOKENS,
) -> Callable[[Turn], AsyncIterator[Event]]:
    """Make a graph an agent; a module-level name bound to the result is what a kind names.

    Only what models say in `answer_nodes` is the answer; without them, what they say in any. Tools and nodes find the
    turn, and in it the user with whose rights they run, under `configurable.turn` of their config. An interrupt asks
    for a person: it ends the reply as a handoff.
    """
    if graph.checkpointer:
        raise TypeError("compile the graph without a checkpointer: the conversation is stored by chat")

    async def run(turn: Turn) -> AsyncGenerator[Event, None]:
        reply = _Reply(tools or {}, answer_nodes)
        for event in reply.recall(turn.steps):
            yield event
        if reply.has_handed_off():
            yield Finished("handoff")
            return
        messages = _messages(turn, reply.finished, instructions, context_tokens)
        reply.known.update(message.id for message in messages)
        items = graph.astream(
            {"messages": messages},
            {"configurable": {"turn": turn}, "recursion_limit": max_rounds},
            stream_mode=["messages", "updates"],
        )
        async with aclosing(cast("AsyncGenerator[tuple[str, Any], None]", items)) as stream:
            try:
                async for mode, data in stream:
                    for event in reply.hear(mode, data):
                        yield event
                    if reply.has_handed_off():
                        break
            except GraphRecursionError:
                yield Finished("step_limit")
                return
        yield reply.end()

    return run


def _messages(turn: Turn, steps: Sequence[Step], instructions: str, budget: int) -> list[AnyMessage]:
    context = build_context(turn.history, instructions=instructions, steps=steps, budget=budget)
    messages = convert_to_messages(context.messages if instructions else context.messages[1:])
    # By their ids the graph's stream knows what was there before.
    for number, message in enumerate(messages):
        message.id = f"parley-{number}"
    return cast("list[AnyMessage]", messages)


@dataclass(slots=True)
class _Reply:
    """One run of a graph: what it tells in, events out."""

    tools: Mapping[str, GraphTool]
    answer_nodes: Collection[str] | None
    known: set[str | None] = field(default_factory=set)
    """Ids of the messages that are told already."""
    finished: list[Step] = field(default_factory=list)
    _open: list[tuple[Step, dict[str, Result]]] = field(default_factory=list)
    _message_id: str | None = None
    _said: str = ""
    """By the message that grows."""
    _shown: str = ""
    """The end of it."""
    _has_text: bool = False
    _end: str = "stop"
    _is_handed_off: bool = False

    def has_handed_off(self) -> bool:
        """Whether a person takes over."""
        return self._is_handed_off

    def recall(self, steps: Sequence[Step]) -> Iterator[Event]:
        """Tell again what earlier attempts had decided and finished."""
        for step in steps:
            if step.text:
                yield self._show(step.text, None)
            yield from self._called(step)
            interrupted = [Result(call.call_id, is_ok=False, content=error_content(INTERRUPTED)) for call in step.calls]
            done = step if step.results is not None else replace(step, results=tuple(interrupted))
            for call, result in zip(done.calls, done.results or (), strict=False):
                yield from self._told(call, result)
            if step.results is None:
                yield StepFinished(done)
            self._finish(done)

    def hear(self, mode: str, data: Any) -> Iterator[Event]:
        """Take one item of the graph's stream."""
        if mode == "messages":
            message, metadata = data
            if isinstance(message, AIMessage) and self._is_answer(metadata.get("langgraph_node")):
                yield from self._grow(message)
            return
        for node, update in data.items():
            if node == "__interrupt__":
                self._is_handed_off = True
                continue
            for message in _messages_of(update):
                if message.id is None or message.id not in self.known:
                    self.known.add(message.id)
                    yield from self._take(node, message)

    def end(self) -> Event:
        """Say how the reply ends when the graph has."""
        if self._is_handed_off:
            return Finished("handoff")
        if not self._has_text:
            return fail(EMPTY, is_retryable=True)
        return Finished(_CUTS.get(self._end, "stop"))

    def _is_answer(self, node: str | None) -> bool:
        return self.answer_nodes is None or node in self.answer_nodes

    def _grow(self, message: AIMessage) -> Iterator[Event]:
        text = str(message.text)
        is_new = message.id != self._message_id
        # A node may return what its model said as a message of its own.
        if not text or (is_new and not isinstance(message, AIMessageChunk) and text == self._said):
            return
        yield self._show(text, message.id)

    def _show(self, text: str, message_id: str | None) -> Event:
        is_new = message_id is None or message_id != self._message_id
        self._message_id, self._said = message_id, text if is_new else self._said + text
        text = join_round(self._shown, text) if is_new else text
        self._shown, self._has_text = text[-1:], self._has_text or not text.isspace()
        return TextGrew(text)

    def _take(self, node: str, message: BaseMessage) -> Iterator[Event]:
        if isinstance(message, AIMessage):
            self._end = str(
                message.response_metadata.get("finish_reason") or message.response_metadata.get("stop_reason")
            )
            if message.tool_calls:
                calls = [Call(call["id"] or "", call["name"], json.dumps(call["args"])) for call in message.tool_calls]
                step = Step(str(message.text) if self._is_answer(node) else "", tuple(calls))
                self._open.append((step, {}))
                yield StepDecided(step)
                yield from self._called(step)
        elif isinstance(message, ToolMessage):
            yield from self._settle(message)

    def _settle(self, message: ToolMessage) -> Iterator[Event]:
        for place, (step, results) in enumerate(self._open):
            call = next((call for call in step.calls if call.call_id == message.tool_call_id), None)
            if call is None or call.call_id in results:
                continue
            is_ok, tool = message.status != "error", self.tools.get(call.name)
            is_handoff = is_ok and tool is not None and tool.is_handoff
            results[call.call_id] = Result(call.call_id, is_ok, cut(str(message.text)), is_handoff=is_handoff)
            yield from self._told(call, results[call.call_id])
            if len(results) == len({call.call_id for call in step.calls}):
                done = replace(step, results=tuple(results[call.call_id] for call in step.calls))
                del self._open[place]
                yield StepFinished(done)
                self._finish(done)
            return

    def _finish(self, step: Step) -> None:
        self.finished.append(step)
        self._is_handed_off = self._is_handed_off or any(result.is_handoff for result in step.results or ())

    def _called(self, step: Step) -> Iterator[Event]:
        for call in step.calls:
            if (tool := self.tools.get(call.name)) is not None:
                arguments = showable(json.loads(call.arguments)) if tool.is_public else None
                yield ToolCalled(call.call_id, call.name, tool.label, arguments)

    def _told(self, call: Call, result: Result) -> Iterator[Event]:
        if call.name in self.tools:
            yield ToolFinished(call.call_id, result.is_ok, "")


def _messages_of(update: Any) -> Iterator[BaseMessage]:
    """Return the messages of what a node has written, in any of the forms it may have."""
    for part in update if isinstance(update, list) else [update]:
        found = part.get("messages") if isinstance(part, Mapping) else None
        for message in found if isinstance(found, list | tuple) else [found]:
            if isinstance(message, BaseMessage):
                yield message
