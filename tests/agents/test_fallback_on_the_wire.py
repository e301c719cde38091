"""Fallback before a real HTTP provider that misbehaves on command: rows 19 to 24 end on the next model."""

import time
from typing import Any

import pytest
from tests.agents.clients.provider import open_provider
from tests.agents.shared_state import open_worker
from tests.fixtures.guards import LoopGuard

from parley.agents.clients.attempts import AttemptReport
from parley.agents.clients.fallback import Answering, ModelRoute, Restarting
from parley.agents.clients.port import (
    BROKEN,
    BUSY,
    FIRST_TOKEN_TIMEOUT,
    GARBLED,
    REFUSED,
    SILENT,
    TRUNCATED,
    UNREACHABLE,
    ModelError,
    ModelRequest,
    TextDelta,
)

REQUEST = ModelRequest("", [{"role": "user", "content": "Hello?"}])
BEFORE = [
    ("script-status?status=500", BROKEN, 2),
    ("script-status?status=429&retry_after=0", BUSY, 2),
    ("script-status?status=429&retry_after=3600", BUSY, 1),
    ("script-status?status=400", REFUSED, 1),
    ("script-refuse", UNREACHABLE, 2),
    ("script-hang-first", FIRST_TOKEN_TIMEOUT, 2),
]
MIDDLE = [
    ("script-hang-middle", SILENT),
    ("script-hang-middle?ping_s=0.05", SILENT),
    ("script-truncate-close", TRUNCATED),
    ("script-bad-json", GARBLED),
]


async def ask(
    redis_url: str, guard: LoopGuard, *models: str, **settings: Any
) -> tuple[list[Any], list[AttemptReport], ModelError | None]:
    """Return what came, what was reported and how it failed; all connections must be gone at the end."""
    items, reports, failure = list[Any](), list[AttemptReport](), None
    async with open_provider(guard) as provider, open_worker(redis_url, guard, **settings) as worker:
        routes = [ModelRoute("p", model, provider.client) for model in models]
        try:
            async with worker.fallback.stream(routes, REQUEST, reports.append) as stream:
                async for item in stream:
                    items.append(item)
        except ModelError as error:
            failure = error
        await provider.settle()
    return items, reports, failure


def text_of(items: list[Any]) -> str:
    batches = [item for item in items if not isinstance(item, Answering | Restarting)]
    return "".join(event.text for batch in batches for event in batch if isinstance(event, TextDelta))


@pytest.mark.parametrize(("model", "code", "calls"), BEFORE)
async def test_what_fails_before_the_first_token_passes_unseen(
    redis_url: str, loop_guard: LoopGuard, model: str, code: str, calls: int
) -> None:
    items, reports, failure = await ask(redis_url, loop_guard, model, "demo")

    assert failure is None
    assert text_of(items) == "Hello there."
    assert [report.outcome for report in reports] == [code] * calls + ["ok"]
    assert not [item for item in items if isinstance(item, Restarting)]


@pytest.mark.parametrize(("model", "code"), MIDDLE)
async def test_what_fails_in_the_middle_restarts_visibly(
    redis_url: str, loop_guard: LoopGuard, model: str, code: str
) -> None:
    items, reports, failure = await ask(redis_url, loop_guard, model, "demo")

    assert failure is None
    restart = items.index(Restarting(code))
    assert text_of(items[:restart])
    assert text_of(items[restart:]) == "Hello there."
    assert [report.outcome for report in reports] == [code, "ok"]


@pytest.mark.parametrize("model", ["script-status?status=500", "script-refuse"])
async def test_a_lone_dead_provider_is_told_of_within_five_seconds(
    redis_url: str, loop_guard: LoopGuard, model: str
) -> None:
    began = time.monotonic()
    items, reports, failure = await ask(redis_url, loop_guard, model)

    assert failure is not None
    assert failure.code in {BROKEN, UNREACHABLE}
    assert (items, len(reports)) == ([], 2)
    assert time.monotonic() - began < 5
