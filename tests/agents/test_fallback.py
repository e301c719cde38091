"""Fallback: failures before the first token pass unseen, later ones never silently, and every call is reported."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from tests.agents.model_double import HANG, Line, ModelDouble, answer
from tests.agents.shared_state import NOWHERE, Worker, open_worker
from tests.fixtures.guards import LoopGuard

from parley.agents.clients.attempts import AttemptReport
from parley.agents.clients.fallback import Answering, ModelRoute, Restarting
from parley.agents.clients.port import (
    AUTH,
    BROKEN,
    BUSY,
    FIRST_TOKEN_TIMEOUT,
    REFUSED,
    SILENT,
    TOO_LONG,
    TRUNCATED,
    UNREACHABLE,
    Finish,
    ModelError,
    ModelRequest,
    TextDelta,
    Usage,
)

REQUEST = ModelRequest("chosen", [{"role": "user", "content": "How do I return a jacket?"}])
BROKEN_NOW: list[Line] = [ModelError(BROKEN, is_retryable=True, status=500)]
ANSWER = answer("Within ", "30 days.")


class Asked:
    """What came of asking a list of models."""

    def __init__(self, *models: ModelDouble, provider: str = "p") -> None:
        self.routes = [ModelRoute(f"{provider}{number}", f"m{number}", model) for number, model in enumerate(models)]
        self.items: list[Any] = []
        self.reports: list[AttemptReport] = []
        self.took_s = 0.0

    async def ask(self, worker: Worker) -> "Asked":
        started = time.monotonic()
        try:
            async with worker.fallback.stream(self.routes, REQUEST, self.reports.append) as items:
                async for item in items:
                    self.items.append(item)
        finally:
            self.took_s = time.monotonic() - started
        return self

    @property
    def text(self) -> str:
        """The text as a screen shows it: forgotten at a restart."""
        text = ""
        for item in self.items:
            if isinstance(item, Restarting):
                text = ""
            elif not isinstance(item, Answering):
                text += "".join(event.text for event in item if isinstance(event, TextDelta))
        return text

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(report.model, report.outcome) for report in self.reports]


def failing(code: str, *, is_retryable: bool = True, retry_after_s: float | None = None) -> Sequence[Line]:
    return [ModelError(code, is_retryable=is_retryable, retry_after_s=retry_after_s)]


async def test_the_first_model_answers_and_its_call_is_reported(redis_url: str, loop_guard: LoopGuard) -> None:
    model = ModelDouble(ANSWER)
    async with open_worker(redis_url, loop_guard) as worker:
        asked = await Asked(model).ask(worker)

    assert asked.text == "Within 30 days."
    assert asked.items[0] == Answering("p0", "m0")
    assert model.requests[0].model == "m0"
    (report,) = asked.reports
    assert (report.outcome, report.usage, report.characters) == ("ok", Usage(10, 2), 15)
    assert report.first_token_s is not None
    assert 0 <= report.first_token_s <= report.total_s


async def test_a_failure_before_the_first_token_is_repeated_unseen(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_worker(redis_url, loop_guard) as worker:
        asked = await Asked(ModelDouble(BROKEN_NOW, ANSWER)).ask(worker)

    assert asked.text == "Within 30 days."
    assert asked.outcomes == [("m0", BROKEN), ("m0", "ok")]
    assert sum(isinstance(item, Answering) for item in asked.items) == 1


@pytest.mark.parametrize("code", [BROKEN, UNREACHABLE])
async def test_a_dead_provider_is_called_twice_and_named_within_five_seconds(
    redis_url: str, loop_guard: LoopGuard, code: str
) -> None:
    model = ModelDouble(failing(code))
    async with open_worker(redis_url, loop_guard) as worker:
        asked = Asked(model)
        with pytest.raises(ModelError, match=code):
            await asked.ask(worker)

    assert len(model.requests) == 2
    assert asked.took_s < 5


@pytest.mark.parametrize("code", [AUTH, REFUSED])
async def test_what_cannot_succeed_is_not_repeated_and_the_next_model_asked(
    redis_url: str, loop_guard: LoopGuard, code: str
) -> None:
    async with open_worker(redis_url, loop_guard) as worker:
        asked = await Asked(ModelDouble(failing(code, is_retryable=False)), ModelDouble(ANSWER)).ask(worker)

    assert asked.outcomes == [("m0", code), ("m1", "ok")]


async def test_retry_after_is_honoured_when_it_is_short(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_worker(redis_url, loop_guard) as worker:
        asked = await Asked(ModelDouble(failing(BUSY, retry_after_s=0.3), ANSWER), ModelDouble(ANSWER)).ask(worker)

    assert asked.outcomes == [("m0", BUSY), ("m0", "ok")]
    assert 0.3 <= asked.took_s < 1.2


async def test_a_long_retry_after_moves_on_at_once_and_leaves_the_model_alone(
    redis_url: str, loop_guard: LoopGuard
) -> None:
    busy = ModelDouble(failing(BUSY, retry_after_s=60))
    async with open_worker(redis_url, loop_guard) as worker:
        asked = await Asked(busy, ModelDouble(ANSWER)).ask(worker)
        again = await Asked(busy, ModelDouble(ANSWER)).ask(worker)

    assert asked.outcomes == [("m0", BUSY), ("m1", "ok")]
    assert asked.took_s < 1
    assert again.outcomes == [("m1", "ok")]
    assert len(busy.requests) == 1


async def test_with_every_model_busy_the_caller_is_told_when_to_come_back(
    redis_url: str, loop_guard: LoopGuard
) -> None:
    async with open_worker(redis_url, loop_guard) as worker:
        models = [ModelDouble(failing(BUSY, retry_after_s=after)) for after in (3600.0, 60.0)]
        with pytest.raises(ModelError, match=BUSY):
            await Asked(*models).ask(worker)
        with pytest.raises(ModelError, match=BUSY) as left_alone:
            await Asked(*models).ask(worker)

    assert left_alone.value.is_retryable
    assert left_alone.value.retry_after_s is not None
    assert 59 < left_alone.value.retry_after_s <= 60


async def test_a_model_that_hangs_is_left_within_the_total_deadline(redis_url: str, loop_guard: LoopGuard) -> None:
    model = ModelDouble([HANG])
    async with open_worker(redis_url, loop_guard, fallback_deadline_s=0.3) as worker:
        asked = Asked(model)
        with pytest.raises(ModelError, match=FIRST_TOKEN_TIMEOUT):
            await asked.ask(worker)

    assert 0.25 < asked.took_s < 1.2
    assert model.open == 0
    assert asked.outcomes == [("m0", FIRST_TOKEN_TIMEOUT)]


async def test_a_failure_in_the_middle_restarts_visibly_on_the_next_model(
    redis_url: str, loop_guard: LoopGuard
) -> None:
    async with open_worker(redis_url, loop_guard) as worker:
        torn: list[Line] = [[TextDelta("Within tw")], ModelError(TRUNCATED, is_retryable=True)]
        asked = await Asked(ModelDouble(torn), ModelDouble(ANSWER)).ask(worker)

    markers = [item for item in asked.items if isinstance(item, Answering | Restarting)]
    assert markers == [Answering("p0", "m0"), Restarting(TRUNCATED), Answering("p1", "m1")]
    assert asked.text == "Within 30 days."
    assert asked.outcomes == [("m0", TRUNCATED), ("m1", "ok")]


async def test_under_the_policy_fail_it_fails_with_the_text_so_far(redis_url: str, loop_guard: LoopGuard) -> None:
    other = ModelDouble(ANSWER)
    async with open_worker(redis_url, loop_guard, after_first_token="fail") as worker:
        asked = Asked(ModelDouble([[TextDelta("Within tw")], ModelError(SILENT, is_retryable=True)]), other)
        with pytest.raises(ModelError, match=SILENT):
            await asked.ask(worker)

    assert asked.text == "Within tw"
    assert other.requests == []


async def test_when_no_other_model_begins_the_text_so_far_is_kept(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_worker(redis_url, loop_guard) as worker:
        asked = Asked(ModelDouble([[TextDelta("Within tw")], *failing(SILENT)]), ModelDouble(BROKEN_NOW))
        with pytest.raises(ModelError, match=SILENT):
            await asked.ask(worker)

    assert asked.text == "Within tw"


async def test_an_answer_whose_time_is_spent_does_not_begin_again(redis_url: str, loop_guard: LoopGuard) -> None:
    other = ModelDouble(ANSWER)
    async with open_worker(redis_url, loop_guard) as worker:
        with pytest.raises(ModelError, match=TOO_LONG):
            await Asked(ModelDouble([[TextDelta("Within tw")], *failing(TOO_LONG)]), other).ask(worker)

    assert other.requests == []


async def test_a_stream_that_ends_without_a_finish_is_torn(redis_url: str, loop_guard: LoopGuard) -> None:
    async with open_worker(redis_url, loop_guard) as worker:
        with pytest.raises(ModelError, match=TRUNCATED):
            await Asked(ModelDouble([[TextDelta("Within tw")]])).ask(worker)


async def test_leaving_early_closes_the_call_and_reports_it_as_cancelled(redis_url: str, loop_guard: LoopGuard) -> None:
    model, reports = ModelDouble([[TextDelta("Within")], HANG]), list[AttemptReport]()
    async with open_worker(redis_url, loop_guard) as worker:
        async with worker.fallback.stream([ModelRoute("p", "m", model)], REQUEST, reports.append) as items:
            async for item in items:
                if not isinstance(item, Answering):
                    break
        assert model.open == 0
        assert worker.leases.held("p") == 0
    assert [(report.outcome, report.characters) for report in reports] == [("cancelled", 6)]


@pytest.mark.parametrize("script", [[HANG], [[TextDelta("Within")], HANG]])
async def test_cancelling_closes_the_call_at_once(redis_url: str, loop_guard: LoopGuard, script: list[Line]) -> None:
    model = ModelDouble(script)
    async with open_worker(redis_url, loop_guard) as worker:
        asked = Asked(model)
        run = asyncio.create_task(asked.ask(worker))
        while not model.open:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        started = time.monotonic()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert time.monotonic() - started < 1
        assert model.open == 0
    assert asked.outcomes == [("m0", "cancelled")]


async def test_with_the_breaker_open_the_fallback_answers_at_once(redis_url: str, loop_guard: LoopGuard) -> None:
    dead, alive = ModelDouble(failing(UNREACHABLE)), ModelDouble(ANSWER)
    async with open_worker(redis_url, loop_guard, breaker_min_calls=4) as worker:
        for _ in range(4):
            await Asked(dead, alive).ask(worker)
        calls = len(dead.requests)
        healthy = ModelDouble(ANSWER)
        direct = sorted([(await Asked(healthy, provider="other").ask(worker)).took_s for _ in range(50)])
        behind = sorted([(await Asked(dead, alive).ask(worker)).took_s for _ in range(50)])

    extra_ms = (behind[47] - direct[25]) * 1000
    print(f"extra behind an open breaker: median {(behind[25] - direct[25]) * 1000:.2f} ms, p95 {extra_ms:.2f} ms")
    assert len(dead.requests) == calls
    assert extra_ms < 50


async def test_other_workers_leave_a_dead_provider_alone_within_a_second(redis_url: str, loop_guard: LoopGuard) -> None:
    dead, alive = ModelDouble(failing(UNREACHABLE)), ModelDouble(ANSWER)
    async with (
        open_worker(redis_url, loop_guard, breaker_min_calls=4) as one,
        open_worker(redis_url, loop_guard) as two,
    ):
        await Asked(alive, alive).ask(two)
        for _ in range(4):
            await Asked(dead, alive).ask(one)
        await asyncio.sleep(1.0)
        calls = len(dead.requests)
        assert (await Asked(dead, alive).ask(two)).outcomes == [("m1", "ok")]
    assert len(dead.requests) == calls


async def test_many_failing_calls_make_no_retry_storm(redis_url: str, loop_guard: LoopGuard) -> None:
    dead, alive = ModelDouble(failing(BROKEN)), ModelDouble(ANSWER)
    rules = {"breaker_min_calls": 100_000, "concurrency": 1000, "queue_size": 1000}
    async with open_worker(redis_url, loop_guard, **rules) as worker:
        await asyncio.gather(*(Asked(dead, alive).ask(worker) for _ in range(200)))

    print(f"200 failing calls were sent {len(dead.requests) - 200} repeats")
    assert 200 <= len(dead.requests) <= 200 + 10 + 200 * 0.2 + 2


async def test_a_full_provider_is_passed_over_and_not_blamed(redis_url: str, loop_guard: LoopGuard) -> None:
    slow, other = ModelDouble([0.5, *ANSWER]), ModelDouble(ANSWER)
    async with open_worker(redis_url, loop_guard, concurrency=1, queue_s=0.1, breaker_min_calls=1) as worker:
        first = asyncio.create_task(Asked(slow, other).ask(worker))
        await asyncio.sleep(0.05)
        asked = await Asked(slow, other).ask(worker)
        assert asked.outcomes == [("m1", "ok")]
        assert (await first).outcomes == [("m0", "ok")]
        assert set(worker.breaker.states().values()) == {"closed"}


async def test_a_probe_that_begins_to_answer_lets_the_others_in(redis_url: str, loop_guard: LoopGuard) -> None:
    model = ModelDouble(failing(BROKEN))
    rules = {"breaker_min_calls": 2, "breaker_open_s": 0.2}
    async with open_worker(redis_url, loop_guard, **rules) as worker:
        with pytest.raises(ModelError, match=BROKEN):
            await Asked(model).ask(worker)
        model.then([[TextDelta("Within")], 0.5, [Finish("stop")]])
        await asyncio.sleep(0.25)
        probe = asyncio.create_task(Asked(model).ask(worker))
        await asyncio.sleep(0.1)
        assert not probe.done()
        model.then(ANSWER)
        assert (await Asked(model).ask(worker)).text == "Within 30 days."
        await probe


async def test_without_redis_everything_works_in_the_worker_alone(loop_guard: LoopGuard) -> None:
    dead, alive = ModelDouble(failing(UNREACHABLE)), ModelDouble(ANSWER)
    async with open_worker(NOWHERE, loop_guard, breaker_min_calls=4) as worker:
        for _ in range(6):
            assert (await Asked(dead, alive).ask(worker)).text == "Within 30 days."
    assert len(dead.requests) == 4


async def test_a_fault_of_our_own_is_reported_and_not_hidden(redis_url: str, loop_guard: LoopGuard) -> None:
    class Faulty(ModelDouble):
        def stream(self, request: ModelRequest) -> Any:
            raise ZeroDivisionError

    async with open_worker(redis_url, loop_guard) as worker:
        asked = Asked(Faulty([]))
        with pytest.raises(ZeroDivisionError):
            await asked.ask(worker)
    assert asked.outcomes == [("m0", "crashed")]
