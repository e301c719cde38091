"""Answers to exactly the same request, kept in Redis for agents that say so; replayed as a stream and marked.

Bounded in time and bytes. A Redis that is away means that nothing is cached. Who may cache is the caller's decision.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress

import msgspec

from parley.agents.clients.attempts import AttemptReport
from parley.agents.clients.fallback import Answering, AnswerItem, ModelRoute, Report, Restarting
from parley.agents.clients.port import Finish, ModelRequest, TextDelta, ToolCallDelta, Usage
from parley.agents.scripts import Scripts, SharedAway, tagged
from parley.agents.settings import AgentsSettings
from parley.core.tasks import Tasks

# An answer that was cut, or refused by a filter, is no answer to give again.
WHOLE = frozenset({"stop", "tool_calls"})
PIECE_CHARACTERS = 32  # of a replayed text: a stream like any other, and no flood of tiny events

Stream = AbstractAsyncContextManager[AsyncIterator[AnswerItem]]


class _Kept(msgspec.Struct, array_like=True):
    """An answer as it is stored; the first member says how, so that an older form is never misread."""

    form: int
    provider: str
    model: str
    text: str
    calls: list[ToolCallDelta]
    finish: Finish


class ResponseCache:
    """The cache as one worker sees it."""

    def __init__(self, scripts: Scripts, tasks: Tasks, settings: AgentsSettings) -> None:
        self._step = scripts.load(__package__, "cache")
        self._tasks = tasks
        self._ttl_ms = settings.cache_ttl_s * 1000
        self._max_bytes = settings.cache_max_bytes
        self._max_answer_bytes = settings.cache_max_answer_bytes

    @asynccontextmanager
    async def stream(
        self, scope: str, route: ModelRoute, request: ModelRequest, report: Report, ask: Callable[[], Stream]
    ) -> AsyncIterator[AsyncIterator[AnswerItem]]:
        """Replay the answer to this request if there is one, else `ask()` and keep what comes.

        `scope` says among whom answers are shared: an agent and its version. No user is needed in it: whatever is
        personal in a prompt is part of the messages, so only those who would say the same get the same answer.
        """
        name = _name(scope, route, request)
        kept = await self._find(name)
        if kept is not None:
            report(_report(kept))
            async with aclosing(_replay(kept)) as items:
                yield items
            return
        async with ask() as fresh, aclosing(self._record(name, fresh)) as items:
            yield items

    async def _find(self, name: str) -> _Kept | None:
        with suppress(SharedAway):
            data = await self._run("get", name)
            if data is not None:
                with suppress(msgspec.MsgspecError):
                    kept = msgspec.msgpack.decode(data, type=_Kept)
                    return kept if kept.form == 1 else None
        return None

    async def _record(self, name: str, items: AsyncIterator[AnswerItem]) -> AsyncGenerator[AnswerItem, None]:
        answering: Answering | None = None
        text: list[str] = []
        calls: dict[int, ToolCallDelta] = {}
        finish: Finish | None = None
        async for item in items:
            if isinstance(item, Answering):
                answering = item
            elif isinstance(item, Restarting):
                text, calls = [], {}
            else:
                for event in item:
                    if isinstance(event, TextDelta):
                        text.append(event.text)
                    elif isinstance(event, ToolCallDelta):
                        calls[event.index] = _joined(calls.get(event.index), event)
                    else:
                        finish = event
            yield item
        if answering and finish and finish.reason in WHOLE:
            kept = _Kept(1, answering.provider, answering.model, "".join(text), list(calls.values()), finish)
            data = msgspec.msgpack.encode(kept)
            if len(data) <= self._max_answer_bytes:
                self._tasks.spawn("keep answer", self._keep(name, data))

    async def _keep(self, name: str, data: bytes) -> None:
        with suppress(SharedAway):
            await self._run("put", name, data, self._ttl_ms, self._max_bytes)

    async def _run(self, operation: str, name: str, *arguments: bytes | int) -> bytes | None:
        tag = tagged("cache")
        keys = [f"{tag}:answers", f"{tag}:ends", f"{tag}:bytes"]
        data: bytes | None = await self._step(keys, operation, name, *arguments)
        return data


async def _replay(kept: _Kept) -> AsyncGenerator[AnswerItem, None]:
    yield Answering(kept.provider, kept.model, is_cached=True)
    for start in range(0, len(kept.text), PIECE_CHARACTERS):
        yield [TextDelta(kept.text[start : start + PIECE_CHARACTERS])]
        await asyncio.sleep(0)  # others have their turn
    if kept.calls:
        yield kept.calls
    # Nothing was used: the provider was not asked.
    yield [Finish(kept.finish.reason, Usage(0, 0))]


def _joined(before: ToolCallDelta | None, piece: ToolCallDelta) -> ToolCallDelta:
    if before is None:
        return piece
    return ToolCallDelta(
        before.index, before.call_id or piece.call_id, before.name or piece.name, before.arguments + piece.arguments
    )


def _report(kept: _Kept) -> AttemptReport:
    characters = len(kept.text) + sum(len(call.arguments) + len(call.name or "") for call in kept.calls)
    return AttemptReport(
        provider=kept.provider,
        model=kept.model,
        outcome="ok",
        first_token_s=0.0,
        total_s=0.0,
        usage=Usage(0, 0),
        characters=characters,
        is_cached=True,
    )


def _name(scope: str, route: ModelRoute, request: ModelRequest) -> str:
    """Return the same name for the same request, and for no other; headers carry no part of the question."""
    asked: Sequence[object] = (
        scope,
        route.provider,
        route.model,
        request.messages,
        request.tools,
        request.temperature,
        request.max_tokens,
    )
    return hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()
