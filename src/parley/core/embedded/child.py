"""One supervised program: started again whenever it ends, until it is told to stop."""

import asyncio
import contextlib
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Callable

from parley.core.embedded.errors import EmbeddedError
from parley.core.embedded.lifeline import Lifeline
from parley.core.embedded.program import Program, StopSteps, launch

Say = Callable[[str], None]
"""Where lines for the person at the terminal go."""

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
SETTLED_S = 10.0  # whoever lived this long starts again without a pause


class Child:
    """Keeps one program running. It never gives up: a start that fails is tried again, at most 5 s later."""

    def __init__(self, program: Program, lifeline: Lifeline, say: Say, *, with_death_signal: bool = True) -> None:
        self.program = program
        self.ready = asyncio.Event()
        self.starts = 0
        self._lifeline = lifeline
        self._say = say
        self._with_death_signal = with_death_signal
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._replaced = False
        self._failures = 0
        self._was_ready = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    async def run(self) -> None:
        """Start the program, and start it again, until `stop`."""
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                await self.program.prepare()
                if self._stopping.is_set():
                    return
                ended = await self._run_once()
            except (OSError, EmbeddedError) as error:
                ended, self._was_ready = f"could not be started: {error}", False
            if self._stopping.is_set():
                return
            if self._replaced:
                self._replaced = False
                continue
            pause_s = self._next_pause_s(was_ready=self._was_ready, lived_s=time.monotonic() - started)
            self._say(f"{self.program.name} {ended}; starting it again" + (f" in {pause_s:g} s" if pause_s else ""))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def stop(self) -> None:
        """End the program as its stop steps say; no further start follows."""
        self._stopping.set()
        await self._end(self.program.stop_steps)

    def hurry(self) -> None:
        """Cut short what `stop` still waits for."""
        self._hurry.set()

    async def replace(self) -> None:
        """End this run of the program, so that a new one starts at once."""
        if self.pid is not None:
            self._replaced = True
            await self._end(self.program.stop_steps)

    async def _run_once(self) -> str:
        """Run the program to its end and say how it ended."""
        self.starts += 1
        command = self.program.command()
        process = await launch(command, self.program.death_signal if self._with_death_signal else None)
        self._process = process
        self._lifeline.register(process.pid, self.program.death_signal)
        waiter = asyncio.create_task(self._wait_ready(), name=f"{self.program.name} getting ready")
        try:
            if self._stopping.is_set():  # told so while it was being started
                await self._end(self.program.stop_steps)
            code = await process.wait()
        finally:
            self._was_ready = self.ready.is_set()
            self.ready.clear()
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)
            self._lifeline.forget(process.pid)
        return _ending(code) + (f", see {command.log}" if command.log else "")

    async def _wait_ready(self) -> None:
        await self.program.wait_ready()
        self.ready.set()

    async def _end(self, steps: StopSteps) -> None:
        process = self._process
        for number, patience_s in steps:
            if process is None or process.returncode is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            await self._ended_within(process, patience_s)

    async def _ended_within(self, process: Process, patience_s: float) -> None:
        waits = [asyncio.ensure_future(process.wait()), asyncio.ensure_future(self._hurry.wait())]
        try:
            await asyncio.wait(waits, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _next_pause_s(self, *, was_ready: bool, lived_s: float) -> float:
        # Whoever was at work and was killed is needed at once, however often; whoever cannot start is given time.
        if was_ready or lived_s >= SETTLED_S:
            self._failures = 0
        self._failures += 1
        if self._failures == 1:
            return 0.0
        # The exponent is bounded as well: a program may fail for days.
        return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures - 2, 16)))


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended (exit code {code})"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
