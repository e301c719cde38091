"""Background tasks: named, kept alive, logged when they crash, ended by their owner."""

import asyncio
from typing import Any

from parley.core.tasks import Tasks


async def test_a_crash_is_logged_and_counted_and_reaches_nobody_else(logs: list[dict[str, Any]]) -> None:
    tasks = Tasks()

    async def crash() -> None:
        raise ValueError("on purpose")

    task = tasks.spawn("crasher", crash())
    await asyncio.wait({task})

    assert tasks.crashes == 1
    assert len(tasks) == 0
    assert [event["task"] for event in logs if event["event"] == "task_crashed"] == ["crasher"]


async def test_what_is_kept_runs_again_after_a_crash() -> None:
    tasks, runs, third = Tasks(), 0, asyncio.Event()

    async def fragile() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            third.set()
            await asyncio.Event().wait()
        raise ValueError("on purpose")

    tasks.keep("fragile", fragile)
    await asyncio.wait_for(third.wait(), 10)
    await tasks.close(1)

    assert runs == 3
    assert tasks.crashes == 2


async def test_closing_ends_everything_and_names_what_will_not(logs: list[dict[str, Any]]) -> None:
    tasks, let_go = Tasks(), asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await let_go.wait()

    task = tasks.spawn("stubborn", stubborn())
    await asyncio.sleep(0)
    await tasks.close(0.05)

    assert [event["task"] for event in logs if event["event"] == "task_stuck"] == ["stubborn"]
    let_go.set()
    await task
