"""The agent's decisions: model events in, next step out. Pure: calls no model, runs no tool, builds no prompt."""

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from parley.agents.clients.port import Finish, ModelEvent, TextDelta, ToolCallDelta
from parley.agents.definition import AgentLimits
from parley.agents.interface import Call, Result, Step

EMPTY = "model_empty"  # it ended in order and said nothing
REPEATS = 3  # the third identical call is not run: two may be a glitch, three are a loop
ARGUMENTS_CHARACTERS = 32_768  # as long as the longest message of a person
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")  # OpenAI takes no longer one back
_NAME_REST = re.compile(r"[^A-Za-z0-9_-]")
NAME_CHARACTERS = 64  # the same


@dataclass(frozen=True, slots=True)
class AskModel:
    """Call the model, with the steps so far; in the last round it is told to answer."""

    is_last: bool = False


@dataclass(frozen=True, slots=True)
class RunCalls:
    """Store the step where it is new, run `calls`, and settle with their results."""

    step: Step
    calls: Sequence[Call]
    refused: Sequence[Result]
    """Of the step's other calls: decided without running them."""
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class Answered:
    """The reply is complete."""

    finish_reason: Literal["stop", "length", "content_filter", "handoff", "step_limit"]


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The model ended in order, without an answer."""

    code: str


Next = AskModel | RunCalls | Answered | Unanswered


@dataclass(slots=True)
class _Piece:
    call_id: str | None
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    size: int = 0

    def grow(self, arguments: str) -> None:
        # One character more than is taken shows that there were too many; megabytes are neither stored nor parsed.
        kept = arguments[: max(ARGUMENTS_CHARACTERS + 1 - self.size, 0)]
        self.size += len(kept)
        self.arguments.append(kept)


class Loop:
    """One reply: `begin`, then for each round `hear` ... `decide`, and `settle` after its calls."""

    def __init__(
        self,
        limits: AgentLimits,
        *,
        steps: Sequence[Step] = (),
        idempotent: Collection[str] = (),
    ) -> None:
        self.steps = [step for step in steps if step.results is not None]
        """The finished ones, those of earlier attempts first."""
        self.finish: Finish | None = None
        self._limits, self._idempotent = limits, idempotent
        self._open = steps[-1] if steps and steps[-1].results is None else None
        self._shown, self._has_text, self._is_round_new = "", False, True
        self._clear()

    def begin(self) -> Next:
        """Say how to start: where an earlier attempt stopped, if there was one."""
        if self._open is not None:
            return self._run(self._open, is_new=False)
        if self.steps and _is_handed_off(self.steps[-1]):
            return Answered("handoff")
        return self._ask()

    def show(self, text: str) -> str:
        """Return how a piece of text continues what is shown: rounds are paragraphs."""
        shown = join_round(self._shown, text) if self._is_round_new and text else text
        if shown:
            self._is_round_new = False
            self._has_text = self._has_text or not shown.isspace()
            self._shown = shown[-1:]
        return shown

    def show_again(self, step: Step) -> str:
        """Return the text of an earlier attempt's step for the new tape."""
        self._is_round_new = True
        return self.show(step.text)

    def hear(self, events: Sequence[ModelEvent]) -> str:
        """Take what the model says; return what of it is shown."""
        texts = []
        for event in events:
            if isinstance(event, TextDelta):
                texts.append(event.text)
            elif isinstance(event, ToolCallDelta):
                self._gather(event)
            else:
                self.finish = event
        text = "".join(texts)
        self._texts.append(text)
        return self.show(text)

    @property
    def heard(self) -> str:
        """What the model has said in this round."""
        return "".join(self._texts)

    def decide(self) -> Next:
        """Say what follows a round that the model ended."""
        reason = self.finish.reason if self.finish is not None else "stop"
        if reason == "length" or reason == "content_filter":  # noqa: PLR1714  # mypy narrows these
            # The last call may be cut and still look whole: none is run.
            return Answered(reason)
        is_last = len(self.steps) >= self._limits.max_steps
        if not self._pieces:
            if not self._has_text:
                return Unanswered(EMPTY)
            return Answered("step_limit" if is_last else "stop")
        step = Step("".join(self._texts), tuple(self._calls()))
        counts = self._counts()
        was_told = any(counts[_key(call)] >= REPEATS for call in step.calls)
        return Answered("step_limit") if is_last or was_told else self._run(step, is_new=True)

    def settle(self, results: Sequence[Result]) -> tuple[Step, Next]:
        """Take the results of the calls that ran; return the finished step and what follows."""
        step, refused = self._running
        by_id = {result.call_id: result for result in (*refused, *results)}
        finished = replace(step, results=tuple(by_id[call.call_id] for call in step.calls))
        self.steps.append(finished)
        self._open = None
        self._clear()
        return finished, Answered("handoff") if _is_handed_off(finished) else self._ask()

    def begin_round(self) -> None:
        """Forget what the round before said."""
        self._clear()

    def start_over(self) -> None:
        """Forget the round under way and what is shown: another model begins after the last finished step."""
        self._shown, self._has_text = "", False
        self._clear()

    def _clear(self) -> None:
        self.finish = None
        self._texts: list[str] = []
        self._pieces: list[_Piece] = []
        self._by_index: dict[int, _Piece | None] = {}
        self._is_round_new = True

    def _ask(self) -> AskModel:
        return AskModel(is_last=len(self.steps) >= self._limits.max_steps)

    def _gather(self, delta: ToolCallDelta) -> None:
        piece = self._by_index.get(delta.index)
        # Some providers number every call 0 and tell them apart by their ids.
        is_other = piece is not None and delta.call_id and piece.call_id and piece.call_id != delta.call_id
        if delta.index not in self._by_index or is_other:
            if len(self._pieces) > self._limits.max_calls:
                # One more than may run is kept, to be told so; the rest would only fill the prompt.
                self._by_index[delta.index] = None
                return
            piece = _Piece(delta.call_id)
            self._pieces.append(piece)
            self._by_index[delta.index] = piece
        if piece is None:
            return
        piece.call_id = piece.call_id or delta.call_id
        piece.name = piece.name or (delta.name or "")
        piece.grow(delta.arguments)

    def _calls(self) -> list[Call]:
        # With the message's id it is the key of what a call does: unique in the reply, whatever a provider gives.
        taken = {call.call_id for step in self.steps for call in step.calls}
        calls = []
        for position, piece in enumerate(self._pieces):
            call_id = piece.call_id or ""
            if not _CALL_ID.fullmatch(call_id) or call_id in taken:
                call_id = f"s{len(self.steps):03d}c{position:04d}"  # nine letters and digits: what Mistral insists on
            taken.add(call_id)
            name = _NAME_REST.sub("_", piece.name)[:NAME_CHARACTERS] or "unnamed"
            calls.append(Call(call_id, name, "".join(piece.arguments) or "{}"))
        return calls

    def _counts(self) -> Counter[tuple[str, str]]:
        return Counter(_key(call) for step in self.steps for call in step.calls)

    def _run(self, step: Step, *, is_new: bool) -> RunCalls:
        counts = self._counts()
        calls: list[Call] = []
        refused: list[Result] = []
        for call in step.calls:
            counts[_key(call)] += 1
            refusal = self._refusal(call, counts[_key(call)], len(calls), is_new=is_new)
            if refusal is None:
                calls.append(call)
            else:
                refused.append(Result(call.call_id, is_ok=False, content=error_content(refusal)))
        self._running = (step, refused)
        return RunCalls(step, calls, refused, is_new)

    def _refusal(self, call: Call, count: int, running: int, *, is_new: bool) -> str | None:
        if running >= self._limits.max_calls:
            return f"At most {self._limits.max_calls} tools can be called at once; this one was not. Call it later."
        if problem := find_problem(call.arguments):
            return f"{problem} Call {call.name} again with one JSON object as arguments."
        if count >= REPEATS:
            return (
                f"{call.name} was called {count} times with the same arguments. Its result will not change: use what "
                "you have, try something else, or answer. The next such call ends the reply."
            )
        if not is_new and call.name not in self._idempotent:
            return (
                f"{call.name} was started and interrupted: it may or may not have taken effect. Do not call it again "
                "before you know; if you cannot find out, tell the user."
            )
        return None


def join_round(shown: str, text: str) -> str:
    """Return the text of a new round as it continues what is shown."""
    is_joined = not shown or shown[-1].isspace() or text[:1].isspace()
    return text if is_joined else f"\n\n{text}"


def parse_arguments(arguments: str) -> dict[str, Any] | None:
    """Return the arguments of a call, None where they are no JSON object."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def find_problem(arguments: str) -> str | None:
    """Return in words why arguments cannot be used, None when they can."""
    if len(arguments) > ARGUMENTS_CHARACTERS:
        return f"The arguments are too long: at most {ARGUMENTS_CHARACTERS} characters are taken."
    try:
        value = json.loads(arguments)
    except json.JSONDecodeError as error:
        return f"The arguments are not valid JSON: {error.msg} at character {error.pos}."
    except (ValueError, RecursionError):
        return "The arguments are not valid JSON: too deep, or a number too long."
    return None if isinstance(value, dict) else "The arguments are JSON, but not an object."


def error_content(sentence: str) -> str:
    """Return what the model reads where a call has no result, in the form the tools use."""
    return json.dumps({"error": sentence}, ensure_ascii=False)


def _is_handed_off(step: Step) -> bool:
    return any(result.is_handoff for result in step.results or ())


def _key(call: Call) -> tuple[str, str]:
    value = parse_arguments(call.arguments)
    return call.name, call.arguments.strip() if value is None else json.dumps(value, sort_keys=True)
