"""Background tasks with a name, an owner and an end. No task of the service is born anywhere else."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from random import random
from typing import Any, TypeVar

import structlog

from parley.core.backoff import full_jitter

T = TypeVar("T")

log = structlog.get_logger(__name__)

RESTART_BASE_S = 0.1
RESTART_CAP_S = 5.0
CANCEL_AGAIN_S = 0.5  # what a task may take to tidy up before it is asked again


class Tasks:
    """Strong references to everything that runs beside the requests; a crash is logged, and closing waits."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self.crashes = 0

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` to its end; a failure is logged and counted, nobody needs to await it."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Run `work` for ever: when it fails or ends, run it again after a jittered pause."""
        return self.spawn(name, self._keep(name, work))

    async def close(self, within_s: float) -> None:
        """Cancel everything and wait until it has ended, but not longer than `within_s`.

        Cancels again and again: Python 3.11's `wait_for` swallows a cancellation that meets its result, and libraries
        wait with it.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while self._running and loop.time() < deadline:
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running, timeout=min(CANCEL_AGAIN_S, deadline - loop.time()))
        for task in self._running:
            log.error("task_stuck", task=task.get_name())

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            try:
                await work()
                failures = 0
            except Exception:
                self.crashes += 1
                log.exception("task_restarted", task=name)
                failures += 1
            spread = random()  # noqa: S311  # spreads load, guards nothing
            await asyncio.sleep(full_jitter(failures, base_s=RESTART_BASE_S, cap_s=RESTART_CAP_S, random=spread))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crashes += 1
            log.error("task_crashed", task=task.get_name(), exc_info=error)
