"""The cache: the same request gets the same answer as a stream, marked; within bounds, and only whole answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.agents.model_double import Line, ModelDouble, answer
from tests.agents.shared_state import NOWHERE, Worker, open_worker
from tests.fixtures.guards import LoopGuard

from parley.agents.cache import ResponseCache
from parley.agents.clients.attempts import AttemptReport
from parley.agents.clients.fallback import Answering, ModelRoute
from parley.agents.clients.port import (
    TRUNCATED,
    Finish,
    ModelError,
    ModelRequest,
    TextDelta,
    ToolCallDelta,
    Usage,
)

REQUEST = ModelRequest("m", [{"role": "user", "content": "How do I return a jacket? 🧥"}])


class Cached:
    """A worker's cache before a scripted model."""

    def __init__(self, worker: Worker, cache: ResponseCache, model: ModelDouble) -> None:
        self.worker, self.cache, self.model = worker, cache, model
        self.reports: list[AttemptReport] = []

    async def ask(self, request: ModelRequest = REQUEST, scope: str = "support/1") -> list[Any]:
        route = ModelRoute("p", request.model, self.model)
        stream = self.cache.stream(scope, route, request, self.reports.append, lambda: self.ask_model(route, request))
        async with stream as items:
            got = [item async for item in items]
        await asyncio.sleep(0.02)  # what was said is kept after it was said
        return got

    def ask_model(self, route: ModelRoute, request: ModelRequest) -> Any:
        return self.worker.fallback.stream([route], request, self.reports.append)


@asynccontextmanager
async def open_cached(redis_url: str, guard: LoopGuard, model: ModelDouble, **values: Any) -> AsyncIterator[Cached]:
    async with open_worker(redis_url, guard, **values) as worker:
        with guard.paused():
            cache = ResponseCache(worker.scripts, worker.tasks, worker.settings)
        yield Cached(worker, cache, model)


def text_of(items: list[Any]) -> str:
    events = [event for item in items if not isinstance(item, Answering) for event in item]
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_the_second_answer_is_replayed_marked_and_costs_nothing(redis_url: str, loop_guard: LoopGuard) -> None:
    long = "Within 30 days. 🧥 " * 10
    async with open_cached(redis_url, loop_guard, ModelDouble(answer(long))) as cached:
        first, second = await cached.ask(), await cached.ask()

        assert first[0] == Answering("p", "m")
        assert second[0] == Answering("p", "m", is_cached=True)
        assert text_of(second) == text_of(first) == long
        assert len(second) > 4
        assert second[-1] == [Finish("stop", Usage(0, 0))]
        assert len(cached.model.requests) == 1
        assert [(report.outcome, report.is_cached) for report in cached.reports] == [("ok", False), ("ok", True)]


async def test_tool_calls_are_replayed_whole(redis_url: str, loop_guard: LoopGuard) -> None:
    script: list[Line] = [
        [ToolCallDelta(0, "c1", "search", '{"q":'), ToolCallDelta(1, "c2", "time", "")],
        [ToolCallDelta(0, None, None, '"jacket"}')],
        [Finish("tool_calls")],
    ]
    async with open_cached(redis_url, loop_guard, ModelDouble(script)) as cached:
        await cached.ask()
        again = await cached.ask()
    assert again[1:] == [
        [ToolCallDelta(0, "c1", "search", '{"q":"jacket"}'), ToolCallDelta(1, "c2", "time", "")],
        [Finish("tool_calls", Usage(0, 0))],
    ]


async def test_any_difference_is_another_request(redis_url: str, loop_guard: LoopGuard) -> None:
    others = [
        replace(REQUEST, model="n"),
        replace(REQUEST, messages=[{"role": "user", "content": "How do I return a hat?"}]),
        replace(REQUEST, tools=[{"type": "function"}]),
        replace(REQUEST, temperature=0.5),
        replace(REQUEST, max_tokens=5),
    ]
    async with open_cached(redis_url, loop_guard, ModelDouble(answer("Yes."))) as cached:
        for request in (REQUEST, *others):
            await cached.ask(request)
        await cached.ask(scope="support/2")
        await cached.ask(replace(REQUEST, headers={"x-request-id": "1"}))
        assert len(cached.model.requests) == 7


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_an_answer_that_was_cut_is_not_kept(redis_url: str, loop_guard: LoopGuard, reason: Any) -> None:
    async with open_cached(redis_url, loop_guard, ModelDouble([[TextDelta("Wi")], [Finish(reason)]])) as cached:
        await cached.ask()
        await cached.ask()
        assert len(cached.model.requests) == 2


async def test_an_answer_that_failed_is_not_kept(redis_url: str, loop_guard: LoopGuard) -> None:
    torn: list[Line] = [[TextDelta("Wi")], ModelError(TRUNCATED)]
    async with open_cached(redis_url, loop_guard, ModelDouble(torn, answer("Yes."))) as cached:
        with pytest.raises(ModelError):
            await cached.ask()
        assert text_of(await cached.ask()) == "Yes."


async def test_answers_end_by_time(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_cached(redis_url, loop_guard, ModelDouble(answer("Yes.")), cache_ttl_s=1) as cached:
        await cached.ask()
        await cached.ask()
        await asyncio.sleep(1.05)
        await cached.ask()
        assert len(cached.model.requests) == 2


async def test_the_oldest_make_room_and_the_bytes_are_bounded(redis_url: str, loop_guard: LoopGuard) -> None:
    model = ModelDouble(answer("x" * 1000))
    async with open_cached(redis_url, loop_guard, model, cache_max_bytes=5000) as cached:
        for number in range(20):
            await cached.ask(replace(REQUEST, max_tokens=number + 1))
        redis = cached.worker.scripts.line.redis
        kept = await redis.hvals("parley:{cache}:answers")
        assert len(kept) == await redis.zcard("parley:{cache}:ends") == 4
        assert sum(map(len, kept)) == int(await redis.get("parley:{cache}:bytes") or 0) <= 5000
        asked = len(model.requests)
        await cached.ask(replace(REQUEST, max_tokens=20))
        assert len(model.requests) == asked
        await cached.ask(replace(REQUEST, max_tokens=1))
        assert len(model.requests) == asked + 1


async def test_an_answer_larger_than_one_may_be_is_not_kept(redis_url: str, loop_guard: LoopGuard) -> None:
    model = ModelDouble(answer("x" * 1000))
    async with open_cached(redis_url, loop_guard, model, cache_max_answer_bytes=500) as cached:
        await cached.ask()
        await cached.ask()
    assert len(model.requests) == 2


async def test_what_cannot_be_read_is_asked_anew(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_cached(redis_url, loop_guard, ModelDouble(answer("Yes."))) as cached:
        await cached.ask()
        redis = cached.worker.scripts.line.redis
        (name,) = await redis.hkeys("parley:{cache}:answers")
        for garbage in (b"\xc1", b"\x96\x02\xa1p\xa1m\xa0\x90\x80", b""):
            await redis.hset("parley:{cache}:answers", name, garbage)
            assert text_of(await cached.ask()) == "Yes."
    assert len(cached.model.requests) == 4


async def test_without_redis_every_answer_is_fresh(loop_guard: LoopGuard) -> None:
    async with open_cached(NOWHERE, loop_guard, ModelDouble(answer("Yes."))) as cached:
        await cached.ask()
        await cached.ask()
        assert len(cached.model.requests) == 2
