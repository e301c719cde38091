"""The port's twin: a provider that says what a test hands it, and notes what it was asked and when it was left."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from uuid import UUID

from parley.agents.clients import fallback
from parley.agents.clients.fallback import AnswerItem, Report
from parley.agents.clients.port import (
    Finish,
    ModelClient,
    ModelError,
    ModelEvent,
    ModelRequest,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from parley.agents.direct import Direct
from parley.core.clock import Clock

Said = Sequence[ModelEvent] | ModelError | None
"""A batch, a failure, or None: silence until the caller leaves."""


class Scripted:
    """A ModelClient; each call plays the next script, the last one again and again."""

    def __init__(self, *scripts: Sequence[Said]) -> None:
        self._scripts = scripts
        self.requests: list[ModelRequest] = []
        self.open = 0

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[Sequence[ModelEvent]]]:
        script = self._scripts[min(len(self.requests), len(self._scripts) - 1)]
        self.requests.append(request)
        self.open += 1
        try:
            yield _play(script)
        finally:
            self.open -= 1


async def _play(script: Sequence[Said]) -> AsyncIterator[Sequence[ModelEvent]]:
    for said in script:
        await asyncio.sleep(0)
        if said is None:
            await asyncio.Event().wait()
        elif isinstance(said, ModelError):
            raise said
        else:
            yield said


def text(*pieces: str, usage: Usage | None = None) -> list[Said]:
    """Answer with text."""
    return [*([TextDelta(piece)] for piece in pieces), [Finish("stop", usage)]]


def calls(*wanted: tuple[str, str], said: str = "") -> list[Said]:
    """Call tools, each by name and arguments; ids are call_0, call_1, ... as careless providers give them."""
    pieces: list[ModelEvent] = [TextDelta(said)] if said else []
    for index, (name, arguments) in enumerate(wanted):
        half = len(arguments) // 2
        pieces += [
            ToolCallDelta(index, f"call_{index}", name, arguments[:half]),
            ToolCallDelta(index, None, None, arguments[half:]),
        ]
    return [pieces, [Finish("tool_calls")]]


class Restarting:
    """Models that fail in the middle go on visibly with the next one, as the service's do; see runner.Models."""

    def __init__(self, clients: Mapping[str, ModelClient], clock: Clock) -> None:
        self._clients, self._clock = clients, clock

    @asynccontextmanager
    async def stream(
        self,
        models: Sequence[str],
        request: ModelRequest,
        report: Report,
        *,
        user_id: UUID,
        cache_scope: str | None = None,
    ) -> AsyncIterator[AsyncIterator[AnswerItem]]:
        async with aclosing(self._answer(models, request, report, user_id)) as items:
            yield items

    async def _answer(
        self, models: Sequence[str], request: ModelRequest, report: Report, user_id: UUID
    ) -> AsyncGenerator[AnswerItem, None]:
        for model, following in zip(models, [*models[1:], None], strict=True):
            direct = Direct(self._clients[model], "double", self._clock)
            try:
                async with direct.stream([model], request, report, user_id=user_id) as items:
                    async for item in items:
                        yield item
            except ModelError as error:
                if following is None:
                    raise
                yield fallback.Restarting(error.code)
            else:
                return
