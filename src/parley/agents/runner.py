"""Runs an agent on a turn: context, model, tools, events. The decisions are the loop's; storing is the consumer's.

Everything happens while an event is asked for: a consumer that does not come back holds the tools up, and one that
leaves closes the model's connection. No task outlives the block.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Protocol
from uuid import UUID

import structlog

from parley.agents.booking import Price, book, no_price
from parley.agents.callables import AgentError, find_callable, run_callable
from parley.agents.chooser import Choice, Choose, TurnShape, choose_model
from parley.agents.clients.attempts import AttemptReport
from parley.agents.clients.fallback import Answering, AnswerItem, Report, Restarting
from parley.agents.clients.port import ModelError, ModelRequest
from parley.agents.context import Context, build_context
from parley.agents.counting import count_offers, count_text
from parley.agents.definition import AgentDefinition
from parley.agents.failures import AGENT_FAILED, AGENT_UNKNOWN, BUDGET, fail
from parley.agents.folding import Summary, is_behind
from parley.agents.interface import (
    Attempt,
    Call,
    Event,
    Failed,
    Finished,
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
)
from parley.agents.loop import Answered, AskModel, Loop, Next, RunCalls, error_content
from parley.agents.prompts.rendering import AgentVariables, PromptError, as_value, check_prompt, render_prompt
from parley.agents.tools.citations import Citations
from parley.agents.tools.outcome import Ran
from parley.agents.tools.registry import Registry
from parley.agents.traces import AgentTraces, TurnTrace
from parley.core.clock import Clock
from parley.core.tasks import Tasks
from parley.core.telemetry import Telemetry

log = structlog.get_logger(__name__)

TOOLS_CLOSE_S = 1.0  # what cancelled tools may take to tidy up


class Models(Protocol):
    """The models that are set up."""

    def stream(
        self,
        models: Sequence[str],
        request: ModelRequest,
        report: Report,
        *,
        user_id: UUID,
        cache_scope: str | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[AnswerItem]]:
        """Ask the models in order, as `clients.fallback` describes; `report` hears of every call, also a cut one.

        Whose budget it is, `user_id` tells; one that is used up is a ModelError of that name, with the text so far.
        With a `cache_scope` the answer may be one that exactly the same request in that scope got before.
        """
        ...


class Older(Protocol):
    """What is kept of messages that fit no prompt any more."""

    async def find(self, conversation_id: UUID) -> Summary | None:
        """Return the summary of a conversation; None where there is none, or it is not told in time."""
        ...

    def fold(self, agent: AgentDefinition, turn: Turn, left_out: int) -> None:
        """Begin to take the oldest `left_out` messages into the summary; returns at once, and never fails."""
        ...


FindAgent = Callable[[str | None], Awaitable[AgentDefinition | None]]
Record = Callable[[Turn, Attempt], None]
RanTool = Callable[[str, str, float], None]
"""Hears of a tool's call: its name, how it went, and the seconds it took."""


def no_record(_: Turn, __: Attempt) -> None:
    """Keep no book."""


def uncounted(_: str, __: str, ___: float) -> None:
    """Count nothing."""


class Runner:
    """The agents of this worker; see interface.Agents."""

    def __init__(
        self,
        *,
        models: Models,
        tools: Registry,
        find_agent: FindAgent,
        clock: Clock,
        configured_model: str,
        choose: Choose = choose_model,
        price: Price = no_price,
        record: Record = no_record,
        ran: RanTool = uncounted,
        older: Older | None = None,
        traces: AgentTraces | None = None,
    ) -> None:
        self.models, self.tools, self.clock = models, tools, clock
        self.configured_model, self.choose, self.price, self.record = configured_model, choose, price, record
        self._find_agent, self.older, self.ran = find_agent, older, ran
        self._traces = traces or AgentTraces(Telemetry())

    @asynccontextmanager
    async def run(self, turn: Turn) -> AsyncIterator[AsyncIterator[Event]]:
        """Answer a turn; `record` gets every attempt, also of a block that was left."""
        trace = self._traces.begin(turn)
        try:
            async with aclosing(self._events(turn, trace)) as events:
                yield events
        finally:
            trace.end()

    async def _events(self, turn: Turn, trace: TurnTrace) -> AsyncGenerator[Event, None]:
        try:
            agent = await self._find_agent(turn.agent)
            if agent is None:
                yield fail(AGENT_UNKNOWN)
                return
            # A row may have been written by hand, or name what a newer version of the code has not.
            function = await find_callable(agent.kind) if agent.kind else None
            check_prompt(agent.prompt)
        except (AgentError, PromptError):
            log.exception("agent_not_usable", agent=turn.agent)
            yield fail(AGENT_FAILED)
            return
        trace.answers(agent)
        if function is None:
            events = Reply(self, agent, turn, trace).events()
        else:
            yield Started(agent.name, agent.version, "", agent.kind)
            events = run_callable(function, turn, deadline_s=agent.limits.reply_deadline_s)
        async with aclosing(events):
            async for event in events:
                if trace.is_on and isinstance(event, Finished | Failed):
                    trace.came_to(event)
                yield event


class Reply:
    """One reply of an agent that talks to models."""

    def __init__(self, runner: Runner, agent: AgentDefinition, turn: Turn, trace: TurnTrace) -> None:
        self._runner, self._agent, self._turn, self._trace = runner, agent, turn, trace
        self._tools = {name: tool for name in agent.tools if (tool := runner.tools.find(name)) is not None}
        self._offers = runner.tools.offers(agent.tools)
        self._offer_tokens = count_offers(self._offers)
        self._loop = Loop(
            agent.limits,
            steps=turn.steps,
            idempotent={name for name, tool in self._tools.items() if tool.is_idempotent},
        )
        self._citations = Citations()
        self._attempts: list[Attempt] = []
        self._model = ""
        self._summary: Summary | None = None
        self._has_looked = False
        self._left_out = 0
        self._built: tuple[tuple[int, bool], Context] | None = None
        """The newest, by what it was built of: the choice of a model and the round behind it need the same."""

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield the reply's events, as the interface names them."""
        clock, limits = self._runner.clock, self._agent.limits
        latest = clock.monotonic() + limits.reply_deadline_s
        choice = await self._choose()
        for event in self._start(choice):
            yield event
        step: Next = self._loop.begin()
        while isinstance(step, AskModel | RunCalls):
            if isinstance(step, AskModel):
                if clock.monotonic() > latest:
                    break
                yield StatusChanged("thinking", "Thinking")
                events = self._ask(choice, is_last=step.is_last)
            else:
                events = self._run_calls(step)
            try:
                async with aclosing(events):
                    async for event in events:
                        yield event
            except ModelError as error:
                yield self._failed(error)
                return
            step = self._loop.decide() if isinstance(step, AskModel) else self._next
        attempts = tuple(self._attempts)
        if not isinstance(step, Answered | AskModel):
            yield fail(step.code, is_retryable=True, attempts=attempts)
            return
        try:
            yield Finished(step.finish_reason if isinstance(step, Answered) else "step_limit", attempts)
        finally:
            # Here also for a consumer that leaves with the end.
            self._fold_older()

    async def _choose(self) -> Choice:
        turn = self._turn
        shape = TurnShape(
            asked_for=turn.model,
            question_tokens=count_text(turn.history[-1].content),
            context_tokens=(await self._context(is_last=False)).tokens,
            has_steps=bool(turn.steps) or any(message.steps for message in turn.history[-2:]),
        )
        return self._runner.choose(self._agent, shape, self._runner.configured_model)

    async def _context(self, *, is_last: bool) -> Context:
        made_of = (len(self._loop.steps), is_last)
        if self._built is None or self._built[0] != made_of:
            self._built = (made_of, await self._new_context(is_last=is_last))
        return self._built[1]

    async def _new_context(self, *, is_last: bool) -> Context:
        context = self._build_context(is_last=is_last)
        if context.left_out and self._runner.older is not None and not self._has_looked:
            self._has_looked = True
            self._summary = await self._runner.older.find(self._turn.conversation_id)
            context = self._build_context(is_last=is_last) if self._summary else context
        self._left_out = max(self._left_out, context.left_out)
        return context

    def _build_context(self, *, is_last: bool) -> Context:
        agent, turn = self._agent, self._turn
        today = self._runner.clock.now().date()
        user = "a guest" if turn.user.is_guest else "signed in"
        return build_context(
            turn.history,
            instructions=render_prompt(agent.prompt, AgentVariables(agent.name, turn.user.name, today)),
            facts=[*agent.facts, f"The customer is {user}; the name they gave: {as_value(turn.user.name) or 'none'}"],
            summary=self._summary.content if self._summary else None,
            steps=self._loop.steps,
            budget=agent.limits.context_tokens - self._offer_tokens,
            is_last=is_last,
        )

    def _start(self, choice: Choice) -> Iterator[Event]:
        """Announce the model, and tell again what earlier attempts had finished."""
        self._model = choice.model
        yield Started(self._agent.name, self._agent.version, choice.model, choice.reason)
        for step in self._loop.steps:
            if text := self._loop.show_again(step):
                yield TextGrew(text)
            yield from self._called(step)
            for result in step.results or ():
                yield from self._finished(step, result)
                if new := self._citations.recall(result):
                    yield SourcesFound(new)
        self._loop.begin_round()

    async def _ask(self, choice: Choice, *, is_last: bool) -> AsyncGenerator[Event, None]:
        agent, loop = self._agent, self._loop
        models = [choice.model, *(model for model in agent.models.fallbacks if model != choice.model)]
        context = await self._context(is_last=is_last)
        request = ModelRequest(
            model=choice.model,
            messages=context.messages,
            tools=self._offers,
            temperature=agent.temperature,
            max_tokens=agent.limits.max_tokens,
            prompt_tokens=context.tokens + self._offer_tokens,
        )
        restarted = False
        loop.begin_round()

        def report(attempt: AttemptReport) -> None:
            self._book(attempt, request)

        stream = self._runner.models.stream(
            models,
            request,
            report,
            user_id=self._turn.user.id,
            cache_scope=f"{agent.name}/{agent.version}" if agent.caches else None,
        )
        async with stream as items:
            async for item in items:
                if isinstance(item, Restarting):
                    loop.start_over()
                    self._citations = Citations()
                    restarted = True
                    yield Restarted(item.code)
                elif isinstance(item, Answering):
                    reason = "cached" if item.is_cached else "fallback"
                    if restarted:
                        restarted = False
                        for event in self._start(Choice(item.model, reason)):
                            yield event
                    elif item.model != self._model or item.is_cached:
                        self._model = item.model
                        yield Started(agent.name, agent.version, item.model, reason)
                elif text := loop.hear(item):
                    yield TextGrew(text)

    async def _run_calls(self, run: RunCalls) -> AsyncGenerator[Event, None]:
        if run.is_new:
            yield StepDecided(run.step)
        elif text := self._loop.show_again(run.step):
            yield TextGrew(text)
        for event in self._called(run.step):
            yield event
        for result in run.refused:
            for event in self._finished(run.step, result):
                yield event
        results = []
        async with aclosing(self._run_all(run.calls)) as outcomes:
            async for ran in outcomes:
                result, sources = self._citations.result(ran)
                results.append(result)
                for event in self._finished(run.step, result):
                    yield event
                if sources:
                    yield SourcesFound(sources)
        step, self._next = self._loop.settle(results)
        yield StepFinished(step)

    async def _run_all(self, calls: Sequence[Call]) -> AsyncGenerator[Ran, None]:
        """Run the calls at once and yield them as they end."""
        tasks = Tasks()
        try:
            running = {tasks.spawn(f"tool {call.name}", self._run_call(call)) for call in calls}
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            await tasks.close(TOOLS_CLOSE_S)

    async def _run_call(self, call: Call) -> Ran:
        tools, limits, clock = self._runner.tools, self._agent.limits, self._runner.clock
        began_at, outcome = clock.monotonic(), "cancelled"
        try:
            async with asyncio.timeout(limits.tool_deadline_s):
                ran = await tools.run(call, tools.context(self._turn), allowed=self._agent.tools)
            outcome = "ok" if ran.is_ok else "failed"
            return ran  # noqa: TRY300  # what follows is for failures
        except TimeoutError:
            outcome = "late"
            return Ran(call.call_id, is_ok=False, content=error_content("The tool took too long. Go on without it."))
        finally:
            took_s = clock.monotonic() - began_at
            self._runner.ran(call.name, outcome, took_s)
            self._trace.ran(call, outcome, took_s)

    def _called(self, step: Step) -> Iterator[Event]:
        # What a model makes up is no tool at work: viewers see only those the agent has.
        for call in step.calls:
            if (tool := self._tools.get(call.name)) is not None:
                yield ToolCalled(call.call_id, call.name, tool.label, self._runner.tools.shown_arguments(call))

    def _finished(self, step: Step, result: Result) -> Iterator[Event]:
        if any(call.call_id == result.call_id and call.name in self._tools for call in step.calls):
            yield ToolFinished(result.call_id, result.is_ok, result.summary)

    def _fold_older(self) -> None:
        older, turn = self._runner.older, self._turn
        if older is not None and is_behind(self._summary, turn.history, self._left_out):
            older.fold(self._agent, turn, self._left_out)

    def _book(self, report: AttemptReport, request: ModelRequest) -> None:
        attempt = book(report, request, self._runner.price)
        self._attempts.append(attempt)
        self._turn.calls.append(attempt)
        self._trace.called(report, attempt, request, self._loop.heard if self._trace.captures_content else "")
        self._runner.record(self._turn, attempt)

    def _failed(self, error: ModelError) -> Event:
        attempts = tuple(self._attempts)
        if error.code == BUDGET:
            return Finished("budget_exceeded", attempts)
        log.info("reply_failed", code=error.code, status=error.status, detail=error.detail)
        return fail(error.code, is_retryable=error.is_retryable, attempts=attempts)
