"""Overload is refused early, and what runs keeps its pace."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from tests.attacks.wires import chatting, talk, watching
from tests.chat.test_replies import at_rest, begin
from tests.conftest import Start
from tests.fixtures.metrics import chat_metrics, counted

from parley.chat.admission import Admission
from parley.chat.errors import Draining, Overloaded
from parley.chat.settings import ChatSettings
from parley.core.clock import SystemClock
from parley.core.drain import Drain
from parley.core.health import Readiness
from parley.core.pulse import EVERY_S, RECENT, Pulse

LATE_S = 8 * EVERY_S  # far more than a machine that is busy with something else


class LateClock(SystemClock):
    """Wakes as late as a loop that is held."""

    def __init__(self, late: list[float]) -> None:
        self.late = late
        self.done = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if not self.late:
            self.done.set()
            await asyncio.Event().wait()
        await asyncio.sleep(seconds + self.late.pop(0))


async def after(late: list[float]) -> Admission:
    """Return what a worker has felt whose loop was so late, pulse by pulse."""
    clock = LateClock(late)
    pulse = Pulse(clock)
    feeling = asyncio.create_task(pulse.feel())
    await clock.done.wait()
    feeling.cancel()
    await asyncio.gather(feeling, return_exceptions=True)
    return Admission(ChatSettings(loop_lag_s=LATE_S / 2), Drain(Readiness()), pulse, chat_metrics())


async def test_a_loop_that_is_late_again_and_again_takes_nothing_new() -> None:
    """And one that is late once, or was, does."""
    with pytest.raises(Overloaded):
        (await after([LATE_S] * RECENT)).check(0)
    (await after([LATE_S] * (RECENT - 1))).check(0)
    (await after([LATE_S] * RECENT + [0.0])).check(0)


async def test_the_ceiling_a_backlog_and_a_drain_refuse() -> None:
    """Each by its own name where it has one; claims are bounded as questions are."""
    drain = Drain(Readiness())
    registry = CollectorRegistry()
    admission = Admission(ChatSettings(live_replies=2), drain, Pulse(SystemClock()), chat_metrics(registry))
    admission.check(1)
    assert [admission.room(live) for live in (0, 1, 2, 3)] == [2, 1, 0, 0]
    with pytest.raises(Overloaded):
        admission.check(2)
    with pytest.raises(Overloaded):
        admission.check(0, has_backlog=True)
    drain.begin()
    with pytest.raises(Draining):
        admission.check(0)
    assert admission.room(0) == 0
    for reason, count in (("full", 1), ("backlog", 1), ("draining", 1), ("loop_lag", 0)):
        assert counted(registry, "chat_admission_refused_total", reason=reason) == count


async def test_a_full_worker_refuses_and_goes_on_with_what_it_writes(start_on_socket: Start) -> None:
    """503 with Retry-After for what is new; what is known by its client_id is answered."""
    async with chatting(start_on_socket, pace_s=0.05, PARLEY_CHAT_LIVE_REPLIES="1") as service:
        account = await service.register()
        words = "A question that is repeated in many small pieces"
        running = asyncio.create_task(begin(service, account, words, client_id="running"))
        async with asyncio.timeout(5):
            while not service.parts["replies"].running:
                await asyncio.sleep(0.01)
        refused = await service.http.post("/chat/send", json={"message": "New"}, headers=account.headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert int(refused.headers["Retry-After"]) >= 1
        again = await begin(service, account, words, client_id="running")
        body = await running
        assert again["reply"]["content"] == body["reply"]["content"] == words
        found = await at_rest(service, account, body["conversation_id"])
        assert [one["status"] for one in found] == ["complete", "complete"]


async def test_who_comes_after_a_goodbye_that_was_cut_short_is_sent_away(
    start_on_socket: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chatting(start_on_socket) as service:
        conversation, drain = await talk(service), service.parts["drain"]

        async def hang(within_s: float) -> None:
            await asyncio.sleep(60 * within_s)

        monkeypatch.setattr(service.parts["replies"], "hand_over", hang)
        drain.begin()
        await drain.complete(0.2)
        async with watching(conversation) as socket:
            await socket.until("draining")
            assert (await socket.end())[0] == 1012
