"""Models without anything around them: one call of the first model, no repeats, no budget, no shared state.

For commands that run for a moment; the service puts `clients.fallback` in its place.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from uuid import UUID

from parley.agents.clients.attempts import Call
from parley.agents.clients.fallback import Answering, AnswerItem, Report
from parley.agents.clients.port import ModelClient, ModelError, ModelRequest
from parley.core.clock import Clock


class Direct:
    """Calls one provider; see runner.Models."""

    def __init__(self, client: ModelClient, provider: str, clock: Clock) -> None:
        self._client, self._provider, self._clock = client, provider, clock

    @asynccontextmanager
    async def stream(
        self,
        models: Sequence[str],
        request: ModelRequest,
        report: Report,
        *,
        user_id: UUID,  # noqa: ARG002  # nobody counts here
        cache_scope: str | None = None,  # noqa: ARG002  # nothing is kept here
    ) -> AsyncIterator[AsyncIterator[AnswerItem]]:
        """Call the first of `models`."""
        async with aclosing(self._answer(models[0], request, report)) as items:
            yield items

    async def _answer(self, model: str, request: ModelRequest, report: Report) -> AsyncGenerator[AnswerItem, None]:
        call = Call(self._provider, model, self._clock)
        outcome, fault = "cancelled", None
        try:
            async with self._client.stream(replace(request, model=model)) as batches:
                await call.begin(batches)
                yield Answering(self._provider, model)
                async for batch in call:
                    yield batch
            outcome = "ok"
        except ModelError as error:
            outcome, fault = error.code, error
            raise
        finally:
            report(call.report(outcome, fault))
