"""One reply while it is written: what its agent has said so far, and how it ends."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from parley.agents.interface import Attempt, Event, SourcesFound, Started, Step, ToolCalled, ToolFinished
from parley.chat import protocol
from parley.chat.service import Claimed
from parley.chat.tape import Tape

INTERNAL = ("internal_error", "Something went wrong on our side.", True)
Why = Literal["stopped", "fenced", "released"]


@dataclass(frozen=True, slots=True)
class Ending:
    """How writing ended."""

    status: Literal["complete", "stopped", "failed"]
    finish_reason: str | None = None
    error: tuple[str, str, bool] | None = None


@dataclass(slots=True, eq=False)
class Writing:
    """One reply that this worker writes."""

    claimed: Claimed
    tape: Tape
    began_at: float
    """When this worker took it on, by the clock that never jumps."""
    grown_at: float = 0.0
    """When its text grew last."""
    task: asyncio.Task[None] | None = None
    why: Why | None = None
    """Why it was told to end before its model did."""
    told_at: float = 0.0
    """When it was told so last."""
    stopped_at: float = 0.0
    """When it was told to stop, first."""
    is_ending: bool = False
    steps: list[Step] = field(default_factory=list)
    shown_steps: list[dict[str, Any]] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    agent: str | None = None
    agent_version: int | None = None
    model: str | None = None
    calls: Sequence[Attempt] = ()
    """Of models, so far."""
    first_token_s: float | None = None
    is_takeover: bool = False
    is_bare: bool = False
    """Whether all but its text was left out, because its end could not be stored with it."""

    def strip(self) -> Ending:
        """Leave out what an agent of somebody's own may have filled with anything; return how the reply ends then."""
        self.is_bare, self.shown_steps, self.sources = True, [], []
        self.agent = self.agent_version = self.model = None
        return Ending("failed", error=INTERNAL)

    def note(self, event: Event) -> bool:
        """Write an event that stands between the characters; return whether it is one."""
        message_id = self.claimed.message_id
        match event:
            case Started(agent, version, model, _):
                self.agent, self.agent_version, self.model = agent, version, model
                body = protocol.start(message_id, self.tape.attempt, agent, model)
            case ToolCalled(call_id, name, label, arguments):
                body = protocol.tool_call(message_id, call_id, name, label, arguments)
                shown = {} if arguments is None else {"arguments": dict(arguments)}
                step = {"call_id": call_id, "name": name, "label": label, "ok": None, "summary": "", **shown}
                self.shown_steps.append(step)
            case ToolFinished(call_id, is_ok, summary):
                for shown_step in self.shown_steps:
                    if shown_step["call_id"] == call_id:
                        shown_step.update(ok=is_ok, summary=summary)
                body = protocol.tool_result(message_id, call_id, ok=is_ok, summary=summary)
            case SourcesFound(sources):
                found: list[Any] = [asdict(source) for source in sources]
                body = protocol.sources(message_id, found)
                self.sources.extend(found)
            case _:
                return False
        self.tape.write(body)
        return True
