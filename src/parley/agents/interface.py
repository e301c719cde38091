"""The only door to the agents: give a turn, get its events; leaving the block closes the provider's connection.

Chat sees nothing else of this package.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from uuid import UUID

Author = Literal["user", "assistant", "operator", "notice"]


@dataclass(frozen=True, slots=True)
class TurnUser:
    """With whose rights tools run."""

    id: UUID
    name: str
    role: str
    is_guest: bool


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    """A message of the conversation, oldest first; the question is the last."""

    role: Author
    content: str
    steps: Sequence["Step"] = ()
    seq: int = 0
    """Its position in the conversation, from 1 on; 0 where there is none, and then no summary is kept."""


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call the model decided on."""

    call_id: str
    name: str
    arguments: str
    """JSON, as the model wrote it."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool gave back, as the model reads it."""

    call_id: str
    is_ok: bool
    content: str
    summary: str = ""
    is_handoff: bool = False
    """Whether a person was called in: the reply ends, also when another attempt finds this stored."""


@dataclass(frozen=True, slots=True)
class Step:
    """One round of the model: what it said and which calls it decided on; results are there when they are done."""

    text: str
    calls: Sequence[Call]
    results: Sequence[Result] | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What an agent is asked."""

    conversation_id: UUID
    message_id: UUID
    """Of the reply. With a call's id it is the key under which a tool runs at most once in effect."""
    user: TurnUser
    history: Sequence[HistoryMessage]
    """Oldest first, the question last. What does not fit the model's budget is summarized here."""
    agent: str | None = None
    """By name; None is the default one."""
    model: str | None = None
    """Overrides what the agent would choose."""
    rev: int | None = None
    """Of the conversation when the history was read: what has a later one has been changed since."""
    steps: Sequence[Step] = ()
    """Of earlier attempts at this reply; the last one may lack its results."""
    calls: "list[Attempt]" = field(default_factory=list, compare=False)
    """Filled by whoever answers: the calls of models as they end, also those that were left."""


@dataclass(frozen=True, slots=True)
class Started:
    """The model is called; again after `Restarted`, and where another model than the one named answers in its place."""

    agent: str
    agent_version: int
    model: str
    chosen_because: str


@dataclass(frozen=True, slots=True)
class TextGrew:
    """The answer grows by `text`, which is never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """What goes on, for people; not part of the answer."""

    state: str
    label: str


@dataclass(frozen=True, slots=True)
class StepDecided:
    """To be stored before the next event is asked for: the calls run after that."""

    step: Step


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """A tool is at work; arguments only of tools declared public."""

    call_id: str
    name: str
    label: str
    arguments: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool is done; the summary is empty for tools that are not declared public."""

    call_id: str
    is_ok: bool
    summary: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where something was found, in the order of its citation number."""

    number: int
    id: str
    title: str
    url: str | None = None
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class SourcesFound:
    """New sources, numbered on from those before."""

    sources: Sequence[Source]


@dataclass(frozen=True, slots=True)
class StepFinished:
    """To be stored before the next event is asked for: a later attempt goes on after it."""

    step: Step


@dataclass(frozen=True, slots=True)
class Restarted:
    """Forget the text so far: another model begins anew."""

    code: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of a model, for the books."""

    model: str
    outcome: str
    """`ok`, `cancelled`, or the code of the error."""
    prompt_tokens: int
    completion_tokens: int
    is_estimated: bool
    first_token_s: float | None
    total_s: float
    cost_usd: float | None
    """None for a model whose price is not known."""
    is_cached: bool = False
    """Whether it was answered without asking the model."""
    cached_tokens: int = 0
    """Of the prompt, those the provider knew already."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete, or was cut where a limit says so."""

    finish_reason: Literal["stop", "length", "content_filter", "handoff", "step_limit", "budget_exceeded"]
    attempts: Sequence[Attempt] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer ends here, with the text so far; `code` and `message` are safe to show."""

    code: str
    message: str
    is_retryable: bool
    attempts: Sequence[Attempt] = field(default_factory=tuple)


Event = (
    Started
    | TextGrew
    | StatusChanged
    | StepDecided
    | ToolCalled
    | ToolFinished
    | SourcesFound
    | StepFinished
    | Restarted
    | Finished
    | Failed
)


class Agents(Protocol):
    """What the container hands to chat."""

    def run(self, turn: Turn) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Answer a turn: ends with `Finished` or `Failed`, and raises nothing for a provider's or tool's fault."""
        ...
