"""Threads of the tools: bounded, abandoned without harm, and no trap for the loop."""

import asyncio
import contextvars
import threading

import pytest

from parley.agents.tools.threads import Threads


async def test_a_thread_sees_the_context_variables_of_its_caller() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("mine")

    assert await Threads(1).run("look", variable.get) == "mine"


async def test_an_abandoned_call_keeps_its_place_until_its_thread_ends() -> None:
    threads, let_go = Threads(1), threading.Event()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(threads.run("stuck", lambda: let_go.wait(10)), 0.05)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(threads.run("waiting", lambda: 1), 0.05)
    let_go.set()

    assert await asyncio.wait_for(threads.run("next", lambda: 2), 5) == 2


@pytest.mark.parametrize("wrong", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, StopIteration])
async def test_what_would_end_the_loop_is_an_error_like_any_other(wrong: type[BaseException]) -> None:
    def fail() -> None:
        raise wrong

    with pytest.raises(RuntimeError, match=wrong.__name__):
        await Threads(1).run("failing", fail)


def test_a_thread_that_outlives_its_loop_disturbs_nobody() -> None:
    let_go, begun = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        let_go.wait(10)

    async def abandon() -> None:
        task = asyncio.create_task(Threads(1).run("late", wait))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(abandon())
    late = [thread for thread in threading.enumerate() if thread.name == "tool late"]
    let_go.set()
    for thread in late:
        thread.join(5)

    assert len(late) == 1
    assert late[0].daemon
    assert not late[0].is_alive()
