"""Keeps children running and ends them in order. Knows no particular program, and imports neither app nor SDKs."""

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from parley.core.embedded.child import Child, Say
from parley.core.embedded.lifeline import Lifeline
from parley.core.embedded.program import Program


class Supervisor:
    """The owner of all children of this process. Leaving it ends those that were not stopped in an order before."""

    def __init__(self, say: Say, *, with_death_signal: bool = True) -> None:
        self._say = say
        self._with_death_signal = with_death_signal
        self._lifeline = Lifeline()
        self._running: dict[Child, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        await self._lifeline.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(self.children)
        await self._lifeline.close()

    @property
    def children(self) -> Sequence[Child]:
        return list(self._running)

    @property
    def guard_pid(self) -> int | None:
        return self._lifeline.guard_pid

    def start(self, program: Program) -> Child:
        """Keep this program running from now on."""
        child = Child(program, self._lifeline, self._say, with_death_signal=self._with_death_signal)
        self._running[child] = asyncio.create_task(child.run(), name=f"supervision of {program.name}")
        return child

    async def stop(self, children: Iterable[Child]) -> None:
        """End these children side by side, each within its own deadlines."""
        ending = [child for child in children if child in self._running]
        results = await asyncio.gather(*(child.stop() for child in ending), return_exceptions=True)
        tasks = [self._running.pop(child) for child in ending]
        results += await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def hurry(self) -> None:
        """Make those that are being stopped end now."""
        for child in self.children:
            if child.is_stopping:
                child.hurry()
