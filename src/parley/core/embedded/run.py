"""One start of a program, to its end. Whether another follows is not its business."""

import asyncio
import contextlib
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Callable

from parley.core.embedded.lifeline import Lifeline
from parley.core.embedded.program import Command, Program, StopSteps, launch


class Run:
    """A process with what is known of it; `changed` is called with each thing that becomes known."""

    def __init__(
        self, program: Program, process: Process, lifeline: Lifeline, changed: Callable[["Run"], None]
    ) -> None:
        self.pid = process.pid
        self.started_at = time.monotonic()
        self.is_ready = False
        self.is_leaving = False
        self.code: int | None = None
        self._program = program
        self._process = process
        self._lifeline = lifeline
        self._changed = changed
        self._retirement: asyncio.Task[None] | None = None
        lifeline.register(process.pid, program.death_signal)
        self._life = asyncio.create_task(self._live(), name=f"{program.name} {process.pid}")

    @classmethod
    async def start(
        cls,
        program: Program,
        command: Command,
        lifeline: Lifeline,
        changed: Callable[["Run"], None],
        *,
        with_death_signal: bool,
    ) -> "Run":
        process = await launch(command, program.death_signal if with_death_signal else None)
        return cls(program, process, lifeline, changed)

    @property
    def has_ended(self) -> bool:
        return self.code is not None

    def begin_end(self, steps: StopSteps, hurried: asyncio.Event) -> None:
        """End it as these steps say, in a task of its own. Any number may ask; one set of signals is sent."""
        if self._retirement is None:
            self._retirement = asyncio.create_task(self._end(steps, hurried), name=f"end of {self.pid}")

    async def wait_end_of_steps(self) -> None:
        """Return when it has ended, or nothing ends it."""
        if self._retirement is not None:
            await asyncio.wait({self._retirement})

    async def _live(self) -> None:
        follower = asyncio.create_task(self._follow(), name=f"{self._program.name} getting ready")
        try:
            code = await self._process.wait()
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
            self._lifeline.forget(self.pid)
        self.code = code
        self._changed(self)

    async def _follow(self) -> None:
        leaving = await self._program.wait_ready()
        self.is_ready = True
        self._changed(self)
        if leaving is not None:
            await leaving
            self.is_leaving = True
            self._changed(self)

    async def _end(self, steps: StopSteps, hurried: asyncio.Event) -> None:
        for number, patience_s in steps:
            if self.has_ended:
                return
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            await self._ended_within(patience_s, hurried)

    async def _ended_within(self, patience_s: float, hurried: asyncio.Event) -> None:
        hurry = asyncio.ensure_future(hurried.wait())
        try:
            await asyncio.wait({self._life, hurry}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
            await asyncio.gather(hurry, return_exceptions=True)


def ending(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"ended (exit code {code})"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
