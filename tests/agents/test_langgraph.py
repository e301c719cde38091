"""A LangGraph graph as an agent, with the real library: its tokens, tools, errors and end are ours."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt

from parley.agents.callables import run_callable
from parley.agents.interface import (
    Call,
    Event,
    Failed,
    Finished,
    HistoryMessage,
    Result,
    Step,
    StepDecided,
    StepFinished,
    TextGrew,
    ToolCalled,
    ToolFinished,
    Turn,
    TurnUser,
)
from parley.agents.langgraph import GraphTool, langgraph_agent

Graph = CompiledStateGraph[Any, Any, Any, Any]
ADA = TurnUser(UUID(int=3), "Ada", "user", is_guest=False)
TURN = Turn(
    UUID(int=1),
    UUID(int=2),
    ADA,
    [
        HistoryMessage("user", "Hi."),
        HistoryMessage("assistant", "Hello."),
        HistoryMessage("user", "Where is my order?"),
    ],
)
TOOLS = {"look": GraphTool("Looking", is_public=True), "call_person": GraphTool("Calling", is_handoff=True)}
HANG = "hang"


def piece(text: str = "", *, reason: str | None = None, **call: Any) -> AIMessageChunk:
    chunks = [tool_call_chunk(index=0, **call)] if call else []
    metadata = {"finish_reason": reason} if reason else {}
    return AIMessageChunk(content=text, tool_call_chunks=chunks, response_metadata=metadata)


def calling(name: str, arguments: str = "{}", said: str = "", call_id: str = "c1") -> list[AIMessageChunk]:
    half = len(arguments) // 2
    return [
        *([piece(said)] if said else []),
        piece(name=name, args=arguments[:half], id=call_id),
        piece(name=None, args=arguments[half:], id=None),
    ]


class Scripted(BaseChatModel):
    """Streams one script a call, the last one again and again; HANG stands for silence."""

    scripts: list[list[Any]]
    asked: list[list[BaseMessage]] = []  # noqa: RUF012  # pydantic copies it
    open: int = 0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: Any = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("whole"))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        script = self.scripts[min(len(self.asked), len(self.scripts) - 1)]
        self.asked.append(list(messages))
        self.open += 1
        try:
            for said in script:
                await asyncio.sleep(0)
                if said is HANG:
                    await asyncio.Event().wait()
                if isinstance(said, Exception):
                    raise said
                yield ChatGenerationChunk(message=said)
        finally:
            self.open -= 1


@tool
async def look(query: str, config: RunnableConfig) -> str:
    """Look something up."""
    turn: Turn = config["configurable"]["turn"]
    return f"{turn.user.name}'s {query}: on its way"


@tool
async def crash() -> str:
    """Fail."""
    raise ValueError("secret of the inside")


@tool
async def call_person() -> str:
    """Call a person."""
    return "called"


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    """Run a graph once, to a good and to a bad end: much is imported by the first."""
    looking = calling("look", '{"query": "x"}')
    for script in ([looking, [piece("Done.")]], [looking], [[ValueError()]]):
        asyncio.run(collect(langgraph_agent(make(Scripted(scripts=script)), max_rounds=3)))


def make(model: BaseChatModel) -> Graph:
    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", ask)
    builder.add_node("tools", ToolNode([look, crash, call_person], handle_tool_errors=True))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile()


async def collect(agent: Any, turn: Turn = TURN) -> list[Event]:
    async with asyncio.timeout(10):
        return [event async for event in run_callable(agent, turn, deadline_s=10)]


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextGrew))


def kinds(events: Sequence[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


async def test_tokens_are_told_as_they_come() -> None:
    model = Scripted(scripts=[[piece("It is "), piece("on its way."), piece(reason="stop")]])

    events = await collect(langgraph_agent(make(model), instructions="Be kind."))

    assert events == [TextGrew("It is "), TextGrew("on its way."), Finished("stop")]
    assert [(m.type, m.text) for m in model.asked[0]] == [
        ("system", "Be kind."),
        ("human", "Hi."),
        ("ai", "Hello."),
        ("human", "Where is my order?"),
    ]


async def test_tools_are_steps_and_run_with_the_user_of_the_turn() -> None:
    model = Scripted(scripts=[calling("look", '{"query": "order"}', said="Let me look."), [piece("On its way.")]])

    events = await collect(langgraph_agent(make(model), tools=TOOLS))

    decided = Step("Let me look.", (Call("c1", "look", '{"query": "order"}'),))
    finished = replace(decided, results=(Result("c1", is_ok=True, content="Ada's order: on its way"),))
    assert events == [
        TextGrew("Let me look."),
        StepDecided(decided),
        ToolCalled("c1", "look", "Looking", {"query": "order"}),
        ToolFinished("c1", is_ok=True, summary=""),
        StepFinished(finished),
        TextGrew("\n\nOn its way."),
        Finished("stop"),
    ]


async def test_a_step_is_told_before_its_tools_run() -> None:
    ran = []

    @tool
    async def book() -> str:
        """Book."""
        ran.append(1)
        return "booked"

    model = Scripted(scripts=[calling("book"), [piece("Done.")]])
    builder = StateGraph(MessagesState)

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder.add_node("agent", ask)
    builder.add_node("tools", ToolNode([book]))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    async for event in run_callable(langgraph_agent(builder.compile()), TURN, deadline_s=10):
        if isinstance(event, StepDecided):
            await asyncio.sleep(0.02)
            assert ran == []
    assert ran == [1]


async def test_a_tool_that_is_not_declared_is_not_shown_and_its_failure_is_a_result() -> None:
    model = Scripted(scripts=[calling("crash"), [piece("Sorry.")]])

    events = await collect(langgraph_agent(make(model), tools=TOOLS))

    assert kinds(events) == ["StepDecided", "StepFinished", "TextGrew", "Finished"]
    (finished,) = [event for event in events if isinstance(event, StepFinished)]
    assert [result.is_ok for result in finished.step.results or ()] == [False]


async def test_a_handoff_tool_ends_the_reply_and_so_does_its_stored_result() -> None:
    model = Scripted(scripts=[calling("call_person"), [piece("Never.")]])
    agent = langgraph_agent(make(model), tools=TOOLS)

    events = await collect(agent)
    (stored,) = [event.step for event in events if isinstance(event, StepFinished)]
    again = await collect(agent, replace(TURN, steps=[stored]))

    assert events[-1] == again[-1] == Finished("handoff")
    assert stored.results is not None
    assert stored.results[0].is_handoff
    assert len(model.asked) == 1


async def test_an_interrupt_is_a_handoff() -> None:
    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(str(interrupt("approve?")))]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", ask)
    builder.add_edge(START, "agent")

    assert (await collect(langgraph_agent(builder.compile())))[-1] == Finished("handoff")


async def test_a_takeover_goes_on_after_the_last_step_and_repeats_no_call() -> None:
    done = Step("Let me look.", (Call("c1", "look", "{}"),), (Result("c1", is_ok=True, content="on its way"),))
    decided = Step("", (Call("c2", "call_person", "{}"),))
    model = Scripted(scripts=[[piece("On its way.")]])

    events = await collect(langgraph_agent(make(model), tools=TOOLS), replace(TURN, steps=[done, decided]))

    assert kinds(events) == [
        *("TextGrew", "ToolCalled", "ToolFinished"),
        *("ToolCalled", "ToolFinished", "StepFinished"),
        *("TextGrew", "Finished"),
    ]
    assert text_of(events) == "Let me look.\n\nOn its way."
    told = [message for message in model.asked[0] if isinstance(message, ToolMessage)]
    assert [message.tool_call_id for message in told] == ["c1", "c2"]
    assert "may or may not" in told[1].text


async def test_an_error_in_a_node_fails_the_reply(logs: list[dict[str, Any]]) -> None:
    model = Scripted(scripts=[[piece("Half an "), ValueError("secret of the inside")]])

    events = await collect(langgraph_agent(make(model)))

    last = events[-1]
    assert isinstance(last, Failed)
    assert (last.code, text_of(events)) == ("agent_failed", "Half an ")
    assert "secret" not in str(events)


async def test_a_graph_that_goes_in_circles_is_ended() -> None:
    model = Scripted(scripts=[calling("look", '{"query": "x"}', call_id=f"c{n}") for n in range(5)])

    events = await collect(langgraph_agent(make(model), max_rounds=7))

    assert events[-1] == Finished("step_limit")
    assert len(model.asked) == 4


@pytest.mark.parametrize(
    ("said", "last"),
    [
        ([piece("Half"), piece(reason="length")], Finished("length")),
        ([piece("Half"), piece(reason="content_filter")], Finished("content_filter")),
    ],
)
async def test_a_cut_answer_says_so(said: list[AIMessageChunk], last: Finished) -> None:
    assert (await collect(langgraph_agent(make(Scripted(scripts=[said])))))[-1] == last


async def test_a_graph_without_a_word_fails_the_reply() -> None:
    last = (await collect(langgraph_agent(make(Scripted(scripts=[[piece(reason="stop")]])))))[-1]

    assert isinstance(last, Failed)
    assert (last.code, last.is_retryable) == ("model_empty", True)


@pytest.mark.parametrize("way", ["left", "cancelled"])
async def test_leaving_closes_the_models_call_and_leaves_no_task(way: str) -> None:
    model = Scripted(scripts=[[piece("Half an "), piece("answer"), HANG]])
    seen = asyncio.Event()
    before = asyncio.all_tasks()

    async def consume() -> None:
        events = run_callable(langgraph_agent(make(model)), TURN, deadline_s=10)
        try:
            async for event in events:
                if event == TextGrew("answer"):
                    seen.set()
                    if way == "left":
                        break
        finally:
            await events.aclose()

    task = asyncio.create_task(consume())
    async with asyncio.timeout(5):
        await seen.wait()
    if way == "cancelled":
        assert model.open == 1
        task.cancel()
    began = asyncio.get_running_loop().time()
    await asyncio.wait({task}, timeout=5)

    assert asyncio.get_running_loop().time() - began < 1
    assert model.open == 0
    assert asyncio.all_tasks() - before == set()


async def test_only_what_the_answering_nodes_say_is_the_answer() -> None:
    model, judge = Scripted(scripts=[[piece("The answer.")]]), Scripted(scripts=[[piece("a private thought")]])

    async def think(state: MessagesState) -> dict[str, Any]:
        await judge.ainvoke(state["messages"])
        return {}

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("think", think)
    builder.add_node("answer", answer)
    builder.add_edge(START, "think")
    builder.add_edge("think", "answer")
    builder.add_edge("answer", END)

    assert text_of(await collect(langgraph_agent(builder.compile(), answer_nodes={"answer"}))) == "The answer."


async def test_a_model_that_does_not_stream_is_told_once() -> None:
    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("All at once.")]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")

    assert await collect(langgraph_agent(builder.compile())) == [TextGrew("All at once."), Finished("stop")]


async def test_a_node_that_returns_the_past_tells_only_what_is_new() -> None:
    done = Step("Let me look.", (Call("c1", "look", "{}"),), (Result("c1", is_ok=True, content="found"),))
    history = [*TURN.history[:1], HistoryMessage("assistant", "Let me look.\n\nFound.", steps=[done]), TURN.history[2]]

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [*state["messages"], AIMessage("New.")]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")

    events = await collect(langgraph_agent(builder.compile(), tools=TOOLS), replace(TURN, history=history))

    assert events == [TextGrew("New."), Finished("stop")]


def test_a_graph_that_keeps_conversations_itself_is_refused() -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("answer", lambda _: {})
    builder.add_edge(START, "answer")

    with pytest.raises(TypeError, match="without a checkpointer"):
        langgraph_agent(builder.compile(checkpointer=InMemorySaver()))
