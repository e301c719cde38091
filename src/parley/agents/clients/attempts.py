"""One call of one model: its batches as they come, and what is to be booked about it. Repeats nothing."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from parley.agents.clients.port import TRUNCATED, Finish, ModelError, ModelEvent, TextDelta, ToolCallDelta, Usage
from parley.core.clock import Clock


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """What a call came to."""

    provider: str
    model: str
    outcome: str
    """`ok`, `cancelled`, `crashed`, or the code of the error."""
    first_token_s: float | None
    total_s: float
    usage: Usage | None
    """None where the provider told none: count `characters` then."""
    characters: int
    """Of text and tool calls that came."""
    is_cached: bool = False
    status: int | None = None
    detail: str = ""
    """What the provider said, for the log only."""
    pieces: int = 0
    """In how many the characters came: hardly a provider sends less than a token a piece."""
    finish_reason: str = ""
    answer_id: str = field(default="", compare=False)
    answered_by: str = field(default="", compare=False)


class Call:
    """A call under way; iterate over its batches."""

    _batches: AsyncIterator[Sequence[ModelEvent]]

    def __init__(self, provider: str, model: str, clock: Clock) -> None:
        self.provider = provider
        self.model = model
        self._clock = clock
        self._began_at = clock.monotonic()
        self._first_token_s: float | None = None
        self._first: Sequence[ModelEvent] | None = None
        self._finish: Finish | None = None
        self._characters = 0
        self._pieces = 0

    async def begin(self, batches: AsyncIterator[Sequence[ModelEvent]]) -> None:
        """Wait for the first token."""
        self._batches = batches
        self._first = await self._read()
        self._first_token_s = self._clock.monotonic() - self._began_at

    def __aiter__(self) -> "Call":
        return self

    async def __anext__(self) -> Sequence[ModelEvent]:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._finish:
            raise StopAsyncIteration
        return await self._read()

    def report(self, outcome: str, error: ModelError | None) -> AttemptReport:
        """Return what is to be booked."""
        finish = self._finish
        return AttemptReport(
            provider=self.provider,
            model=self.model,
            outcome=outcome,
            first_token_s=self._first_token_s,
            total_s=self._clock.monotonic() - self._began_at,
            usage=finish.usage if finish else None,
            characters=self._characters,
            status=error.status if error else None,
            detail=error.detail if error else "",
            pieces=self._pieces,
            finish_reason=finish.reason if finish else "",
            answer_id=finish.answer_id if finish else "",
            answered_by=finish.answered_by if finish else "",
        )

    async def _read(self) -> Sequence[ModelEvent]:
        async for batch in self._batches:
            for event in batch:
                self._pieces += not isinstance(event, Finish)
                if isinstance(event, TextDelta):
                    self._characters += len(event.text)
                elif isinstance(event, ToolCallDelta):
                    self._characters += len(event.arguments) + len(event.name or "")
                else:
                    self._finish = event
            if batch:
                return batch
        raise ModelError(TRUNCATED, is_retryable=True)
