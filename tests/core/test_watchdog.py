"""A loop that is held is named, one that is lost ends its worker, and one that is merely busy or stopped does not."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.fixtures.guards import LoopGuard
from tests.fixtures.metrics import counted

from parley.core.clock import SystemClock
from parley.core.metrics import Metrics
from parley.core.pulse import EVERY_S, RECENT, Pulse
from parley.core.watchdog import Watchdog

BLOCKED_S, STUCK_S = 0.25, 1.0
# What no thread can interrupt: the interpreter's lock is held all the while.
HOLDS_THE_LOCK = """
import asyncio, re
from parley.core import watchdog
from parley.core.clock import SystemClock
from parley.core.metrics import Metrics
from parley.core.pulse import Pulse
watchdog.LATER_S = 0.2
pulse = Pulse(SystemClock())
watchdog.Watchdog(pulse, Metrics(), blocked_s=0.1, stuck_s=0.3, give_up=lambda: None).start()

async def endless():
    feeling = asyncio.create_task(pulse.feel())
    await asyncio.sleep(0.2)
    re.match(r"(a+)+$", "a" * 60 + "b")

asyncio.run(endless())
"""


class Watched:
    """A loop under watch."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.pulse = Pulse(SystemClock())
        self.lost = threading.Event()


@asynccontextmanager
async def watched(guard: LoopGuard, stuck_s: float = STUCK_S) -> AsyncIterator[Watched]:
    made = Watched()
    dog = Watchdog(made.pulse, Metrics(made.registry), blocked_s=BLOCKED_S, stuck_s=stuck_s, give_up=made.lost.set)
    with guard.paused():
        dog.start()
    feeling = asyncio.create_task(made.pulse.feel())
    await asyncio.sleep(2 * EVERY_S)
    try:
        with guard.paused():
            yield made
    finally:
        feeling.cancel()
        await asyncio.gather(feeling, return_exceptions=True)
        with guard.paused():
            dog.stop()


def hold_the_loop(seconds: float) -> None:
    time.sleep(seconds)


async def test_the_frame_that_holds_the_loop_is_named_while_it_does(
    loop_guard: LoopGuard, logs: list[dict[str, Any]]
) -> None:
    """Within a second, once a block, by place and never by what stands in it."""
    async with watched(loop_guard, stuck_s=60) as one:
        before = len(logs)
        hold_the_loop(6 * BLOCKED_S)  # a busy machine looks seldom
        told = [line for line in logs[before:] if line["event"] == "loop_blocked"]
        await asyncio.sleep(0.2)
        assert counted(one.registry, "event_loop_blocked_total") == 1
        assert not one.lost.is_set()

    [line] = told
    assert line["frame"].partition("py:")[0].endswith("test_watchdog.")
    assert line["frame"].endswith(" hold_the_loop")
    assert line["stack"][1].endswith("test_the_frame_that_holds_the_loop_is_named_while_it_does")
    assert line["after_s"] == BLOCKED_S


async def test_a_loop_that_does_not_come_back_is_given_up(loop_guard: LoopGuard, logs: list[dict[str, Any]]) -> None:
    """After every thread's stack has been told."""
    async with watched(loop_guard, stuck_s=0.5) as one:
        began = time.monotonic()
        while not one.lost.is_set() and time.monotonic() - began < 5:
            time.sleep(0.01)
        took_s = time.monotonic() - began
        assert one.lost.is_set()

    assert 0.4 <= took_s < 5
    threads = {line["thread"]: line["stack"] for line in logs if line["event"] == "loop_lost"}
    assert {"MainThread", "watchdog"} <= set(threads)
    assert any("test_a_loop_that_does_not_come_back" in place for place in threads["MainThread"])


async def test_a_busy_loop_and_one_that_has_ended_are_left_alone(
    loop_guard: LoopGuard, logs: list[dict[str, Any]]
) -> None:
    async with watched(loop_guard, stuck_s=0.4) as one:
        for _ in range(5):
            hold_the_loop(BLOCKED_S / 2)
            await asyncio.sleep(0.06)
        one.pulse.is_felt = False
        hold_the_loop(0.8)
        assert not one.lost.is_set()
    assert not [line for line in logs if line["event"].startswith("loop_")]


@pytest.mark.skipif(not hasattr(signal, "SIGVTALRM"), reason="no CPU timers here")
def test_what_lets_no_thread_run_is_ended_by_the_kernel() -> None:
    """And the frame is on the error stream."""
    ended = subprocess.run(
        [sys.executable, "-c", HOLDS_THE_LOCK], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == -signal.SIGVTALRM
    assert "in endless" in ended.stderr


async def test_the_pulse_says_how_late_the_loop_was(loop_guard: LoopGuard) -> None:
    """The worst of the last seconds, and the last few."""
    pulse = Pulse(SystemClock())
    feeling = asyncio.create_task(pulse.feel())
    await asyncio.sleep(3 * EVERY_S)
    with loop_guard.paused():
        time.sleep(0.2)
    await asyncio.sleep((RECENT + 2) * EVERY_S)
    assert 0.1 < pulse.worst_lag_s < 5
    async with asyncio.timeout(10):
        while max(pulse.recent) > 0.1:
            await asyncio.sleep(EVERY_S)
    feeling.cancel()
    await asyncio.gather(feeling, return_exceptions=True)
    assert not pulse.is_felt
