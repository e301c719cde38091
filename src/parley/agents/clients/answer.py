"""Reads one answer: bytes in, events out, and the reason where it goes wrong. Pure; time is nobody's business here."""

from typing import Any

from msgspec import UNSET

from parley.agents.clients import port
from parley.agents.clients.port import Finish, FinishReason, ModelError, ModelEvent, TextDelta, ToolCallDelta, Usage
from parley.agents.clients.refusals import refusal
from parley.agents.clients.sse import EventCutter
from parley.agents.clients.storable import Storable, storable
from parley.agents.clients.wire import CallPart, Choice, Chunk, Delta, NotAChunk, Tokens, decode, decode_model

DONE = b"[DONE]"
NAME = 128  # characters of a name that comes from outside
# The four words of the protocol, and the ones compatible servers use in their place.
REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "end_turn": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "tool_use": "tool_calls",
}
FAILED_REASONS = frozenset({"error", "abort", "insufficient_system_resource"})


class Answer:
    """One answer as it arrives. Once the model has finished, only its usage and `[DONE]` matter."""

    def __init__(self, *, max_bytes: int, max_line_bytes: int, max_pieces: int) -> None:
        self.failure: ModelError | None = None
        """Why it goes no further; what `feed` returned before stays good."""
        self.is_done = False
        """Whether its `Finish` was returned."""
        self.is_alive = False
        """Whether the last `feed` brought anything of substance; thoughts are, though they are not told."""
        self._cutter = EventCutter(max_line_bytes)
        self._bytes_left = max_bytes
        self._pieces_left = max_pieces
        self._text = Storable()
        self._arguments: dict[int, Storable] = {}
        self._call = -1
        self._id: str | None = None
        self._model: str | None = None
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the model said how it ended."""
        return self._reason is not None

    def feed(self, data: bytes) -> list[ModelEvent]:
        """Return the events that these bytes complete."""
        events: list[ModelEvent] = []
        self.is_alive = False
        is_over = len(data) > self._bytes_left
        if is_over:
            data = data[: self._bytes_left]
        self._bytes_left -= len(data)
        for payload in self._cutter.feed(data):
            if self.is_done or self.failure is not None:
                break
            if len(payload) <= len(DONE) + 2 and payload.strip() == DONE:
                self._end(events)
            else:
                self._read(payload, events)
        if self._cutter.is_too_long:
            self._fail(ModelError(port.LINE_TOO_LONG))
        elif is_over:
            self._fail(ModelError(port.TOO_MUCH))
        return events

    def end(self) -> list[ModelEvent]:
        """Return what the end of the stream completes; without a finish reason that is a failure."""
        events: list[ModelEvent] = []
        if not self.is_done and self.failure is None:
            self._end(events)
        return events

    def _end(self, events: list[ModelEvent]) -> None:
        if self._reason is None:
            self._fail(ModelError(port.TRUNCATED, is_retryable=True))
            return
        reason = self._reason
        if reason == "stop" and self._arguments:
            reason = "tool_calls"  # some servers say that they stopped, and mean that they call
        self.is_done = True
        events.append(Finish(reason, self._usage, storable(self._id or "")[:NAME], storable(self._model or "")[:NAME]))

    def _fail(self, failure: ModelError) -> None:
        # Whatever comes behind the finish reason cannot make the answer incomplete.
        if self.failure is None and not self.is_done and self._reason is None:
            self.failure = failure

    def _garbled(self, detail: str) -> None:
        self._fail(ModelError(port.GARBLED, is_retryable=True, detail=detail))

    def _read(self, payload: bytes, events: list[ModelEvent]) -> None:
        try:
            chunk = decode(payload)
        except NotAChunk as error:
            self._garbled(str(error))
            return
        if chunk.usage is not None:
            self._usage = _usage(chunk.usage)
        if self._reason is not None:
            return
        if chunk.error is not None or chunk.object == "error":
            self._fail(_error_in_stream(chunk))
        elif chunk.choices is UNSET and chunk.usage is None:
            self._garbled("neither choices nor usage")
        elif chunk.id and chunk.id != self._id and self._id:
            self._garbled("a chunk of another answer")
        else:
            self._id = self._id or chunk.id
            if self._model is None:
                self._model = decode_model(payload)
            for choice in chunk.choices or ():
                self._choose(choice, events)

    def _choose(self, choice: Choice, events: list[ModelEvent]) -> None:
        if choice.index:
            self._garbled("a choice that nobody asked for")
            return
        if choice.delta is not None:
            self._grow(choice.delta, events)
        if choice.finish_reason and self.failure is None:
            self._finish(choice.finish_reason)

    def _grow(self, delta: Delta, events: list[ModelEvent]) -> None:
        if delta.content and (text := self._text.push(delta.content)):
            events.append(TextDelta(text))
            self._count()
        if delta.refusal and (text := self._text.push(delta.refusal)):
            events.append(TextDelta(text))
            self._count()
        for part in delta.tool_calls or ():
            self._grow_call(part, events)
        if delta.reasoning or delta.reasoning_content:
            self._count()

    def _grow_call(self, part: CallPart, events: list[ModelEvent]) -> None:
        index = part.index
        if index is None:
            # Whoever leaves the index out sends whole calls, or their pieces one after the other.
            index = max(self._call + 1 if part.id else self._call, 0)
        self._call = index
        name, arguments = (part.function.name, part.function.arguments) if part.function else (None, None)
        told = self._arguments.setdefault(index, Storable()).push(arguments or "")
        call_id = storable(part.id or "") or None
        name = storable(name or "") or None
        if told or call_id or name:
            events.append(ToolCallDelta(index, call_id, name, told))
            self._count()

    def _finish(self, word: str) -> None:
        if word in FAILED_REASONS:
            self._fail(ModelError(port.BROKEN, is_retryable=True, detail=f"finish reason {word}"))
        elif word in REASONS:
            self._reason = REASONS[word]
            self.is_alive = True
        else:
            self._garbled("a finish reason that is none")

    def _count(self) -> None:
        self.is_alive = True
        self._pieces_left -= 1
        if self._pieces_left < 0:
            self._fail(ModelError(port.TOO_MUCH, detail="too many pieces"))


def _usage(tokens: Tokens) -> Usage:
    cached = tokens.prompt_tokens_details.cached_tokens if tokens.prompt_tokens_details else None
    return Usage(tokens.prompt_tokens or 0, tokens.completion_tokens or 0, cached or 0)


def _error_in_stream(chunk: Chunk) -> ModelError:
    """An error behind status 200: by its code where it has one, as the status would have said."""
    error: Any = chunk.error if isinstance(chunk.error, dict) else {"message": chunk.error or chunk.message}
    code = error.get("code", chunk.code) if chunk.object == "error" else error.get("code")
    status = int(code) if isinstance(code, int | str) and str(code) in HTTP_FAILURES else 500
    detail = str(error.get("message") or "")
    if code == "rate_limit_exceeded":
        status = 429
    return refusal(status, detail=detail)


HTTP_FAILURES = frozenset(str(status) for status in range(400, 600))
