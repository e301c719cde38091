"""Each guard is shown once to fire."""

import asyncio
import time
import warnings

import pytest
from blockbuster import BlockingError
from tests.fixtures.guards import CPU_LIMIT_S, LoopGuard, left_behind

from parley.core.migrations import needed_revision


async def test_a_blocking_call_of_the_service_on_the_loop_raises() -> None:
    with pytest.raises(BlockingError):
        needed_revision()  # lists a folder


async def test_a_callback_that_uses_too_much_cpu_is_noted(loop_guard: LoopGuard) -> None:
    def hog() -> None:
        until = time.thread_time() + CPU_LIMIT_S * 1.4
        while time.thread_time() < until:
            pass

    asyncio.get_running_loop().call_soon(hog)
    await asyncio.sleep(0.01)

    assert len(loop_guard.held) == 1
    assert "hog" in loop_guard.held.pop()


async def test_a_task_left_behind_is_found() -> None:
    before = asyncio.all_tasks()
    task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")

    assert [left.get_name() for left in left_behind(before)] == ["forgotten"]
    task.cancel()


def test_warnings_are_errors() -> None:
    with pytest.raises(DeprecationWarning):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
