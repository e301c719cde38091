"""Threads for tools that block: daemons of our own, so that a stuck one holds neither loop nor exit."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """At most `limit` at a time; a call that was given up keeps its place until its thread has really ended."""

    def __init__(self, limit: int) -> None:
        self._free = asyncio.Semaphore(limit)

    async def run(self, name: str, work: Callable[[], T]) -> T:
        """Run `work` with the caller's context variables; cancelling returns at once and leaves the thread to end."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def settle(result: T | None, error: BaseException | None) -> None:
            self._free.release()
            if done.done():
                return
            if error is None:
                done.set_result(result)  # type: ignore[arg-type]  # None only where T is None
            else:
                done.set_exception(error)

        def run() -> None:
            result: T | None = None
            error: BaseException | None = None
            try:
                result = context.run(work)
            except BaseException as caught:  # noqa: BLE001  # it is raised again where the call is awaited
                error = caught
                if isinstance(caught, StopIteration) or not isinstance(caught, Exception):
                    # A future cannot carry the first; an exit or a cancellation of the thread's is none of the loop's.
                    error = RuntimeError(f"the function raised {type(caught).__name__}")
            # Long given up, and the loop may be gone.
            if not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(settle, result, error)
                except RuntimeError:
                    return

        try:
            threading.Thread(target=run, name=f"tool {name}", daemon=True).start()
        except RuntimeError:
            self._free.release()
            raise
        return await done
