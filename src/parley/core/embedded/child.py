"""One supervised program: started again whenever it ends, until it is told to stop."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from parley.core.embedded.errors import EmbeddedError
from parley.core.embedded.lifeline import Lifeline
from parley.core.embedded.program import Command, Program, Successive
from parley.core.embedded.run import Run, ending

Say = Callable[[str], None]
"""Where lines for the person at the terminal go."""

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
SETTLED_S = 10.0  # whoever lived this long starts again without a pause


class Child:
    """Keeps one program running. It never gives up: a start that fails is tried again, at most 5 s later.

    At most two runs of it serve at once: the current one, and during `replace` its successor.
    """

    def __init__(self, program: Program, lifeline: Lifeline, say: Say, *, with_death_signal: bool = True) -> None:
        self.program = program
        self.ready = asyncio.Event()
        self.starts = 0
        self._lifeline = lifeline
        self._say = say
        self._with_death_signal = with_death_signal
        self._current: Run | None = None
        self._successor: Run | None = None
        self._leaving: set[Run] = set()
        self._wanted: asyncio.Future[bool] | None = None
        self._news = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failures = 0

    @property
    def pid(self) -> int | None:
        return self._current.pid if self._current and not self._current.has_ended else None

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    async def run(self) -> None:
        """Start the program, and start it again, until `stop`."""
        while not self._stopping.is_set():
            started_at, was_ready = time.monotonic(), False
            try:
                await self.program.prepare()
                if self._stopping.is_set():
                    return
                self._take(await self._start(self.program.command()))
                ended = await self._follow()
            except (OSError, EmbeddedError) as error:
                ended = f"could not be started: {error}"
            else:
                if self._current is not None:
                    started_at, was_ready = self._current.started_at, self._current.is_ready
            if self._stopping.is_set():
                break
            if ended is None:
                self._say(f"{self.program.name} takes no more work; starting another")
                continue
            pause_s = self._next_pause_s(was_ready=was_ready, lived_s=time.monotonic() - started_at)
            self._say(f"{self.program.name} {ended}; starting it again" + (f" in {pause_s:g} s" if pause_s else ""))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
        await self._end_all()

    async def stop(self) -> None:
        """End the program as its stop steps say; no further start follows."""
        self._stopping.set()
        self._news.set()
        await self._end_all()

    def hurry(self) -> None:
        """Cut short what `stop` still waits for."""
        self._hurry.set()

    async def replace(self, within_s: float) -> bool:
        """Start a successor; once it is ready, end the current run and wait for its end.

        False: the successor was not ready within this time, and the current run stays.
        """
        if self.pid is None:  # whoever starts next is new anyway
            return await _is_set_within(self.ready, within_s)
        wanted = self._wanted = asyncio.get_running_loop().create_future()
        self._news.set()
        try:
            await asyncio.wait({wanted}, timeout=within_s)
        finally:
            self._wanted = None
            if self._successor is not None:
                self._retire(self._successor)
                self._successor = None
        await asyncio.gather(*(run.wait_end_of_steps() for run in list(self._leaving)))
        return wanted.done() and wanted.result() and await _is_set_within(self.ready, within_s)

    async def _follow(self) -> str | None:
        """Follow the current run and its successors; return how the last ended, None where it still finishes work."""
        while (run := self._current) is not None and not self._stopping.is_set():
            self._news.clear()
            successor = self._successor
            if run.has_ended or run.is_leaving or (successor is not None and successor.is_ready):
                if not run.has_ended:
                    self._retire(run)
                if successor is None:
                    self._settle(is_replaced=True)  # by the next start
                    return self._ending(run) if run.has_ended else None
                self._successor = None
                self._take(successor)
                self._settle(is_replaced=True)
            elif successor is not None and successor.has_ended:
                self._say(f"{self.program.name}: its successor {self._ending(successor)}")
                self._successor = None
                self._settle(is_replaced=False)
            elif successor is None and self._wanted is not None and not self._wanted.done():
                await self._start_successor()
            else:
                await self._news.wait()
        return None

    async def _start_successor(self) -> None:
        program = self.program
        try:
            run = await self._start(
                program.successor_command() if isinstance(program, Successive) else program.command()
            )
        except OSError as error:
            self._say(f"{program.name}: its successor could not be started: {error}")
            self._settle(is_replaced=False)
            return
        if self._wanted is None:  # given up meanwhile
            self._retire(run)
        else:
            self._successor = run

    async def _start(self, command: Command) -> Run:
        self.starts += 1
        self._command = command
        return await Run.start(
            self.program, command, self._lifeline, self._changed, with_death_signal=self._with_death_signal
        )

    def _take(self, run: Run) -> None:
        self._current = run
        if run.is_ready and not run.has_ended:
            self.ready.set()
        else:
            self.ready.clear()

    def _settle(self, *, is_replaced: bool) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(is_replaced)

    def _changed(self, run: Run) -> None:
        if run is self._current:
            if run.has_ended:
                self.ready.clear()
            elif run.is_ready:
                self.ready.set()
        if run.has_ended:
            self._leaving.discard(run)
        self._news.set()

    def _retire(self, run: Run) -> None:
        """Let it end on its own time, while others go on."""
        self._leaving.add(run)
        run.begin_end(self.program.stop_steps, self._hurry)

    async def _end_all(self) -> None:
        runs = {run for run in (self._current, self._successor, *self._leaving) if run is not None}
        for run in runs:
            run.begin_end(self.program.stop_steps, self._hurry)
        await asyncio.gather(*(run.wait_end_of_steps() for run in runs))

    def _ending(self, run: Run) -> str:
        log = self._command.log
        return ending(run.code or 0) + (f", see {log}" if log else "")

    def _next_pause_s(self, *, was_ready: bool, lived_s: float) -> float:
        # Whoever was at work and was killed is needed at once, however often; whoever cannot start is given time.
        if was_ready or lived_s >= SETTLED_S:
            self._failures = 0
        self._failures += 1
        if self._failures == 1:
            return 0.0
        # The exponent is bounded as well: a program may fail for days.
        return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures - 2, 16)))


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
