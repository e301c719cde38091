"""The parent's end of the guard: tells it which processes must not outlive this one, and keeps it alive."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")
CLOSE_TIMEOUT_S = 2.0
RESTART_PAUSE_S = 0.1


class Lifeline:
    """Everything registered here ends within 2 s of this process, even of its `kill -9`."""

    def __init__(self) -> None:
        self._registered: dict[int, int] = {}
        self._guard: Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._guard = await self._start()
        self._keeper = asyncio.create_task(self._keep(), name="guard of the children")

    @property
    def guard_pid(self) -> int | None:
        return self._guard.pid if self._guard else None

    def register(self, pid: int, death_signal: signal.Signals) -> None:
        self._registered[pid] = death_signal
        self._tell(f"register {pid} {int(death_signal)}\n")

    def forget(self, pid: int) -> None:
        if self._registered.pop(pid, None) is not None:
            self._tell(f"forget {pid}\n")

    async def close(self) -> None:
        """Let the guard go; what is still registered is ended by it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            try:
                await asyncio.wait_for(self._guard.wait(), CLOSE_TIMEOUT_S)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._guard.kill()
                await self._guard.wait()

    async def _start(self) -> Process:
        guard = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(GUARD), stdin=PIPE, stdout=DEVNULL, start_new_session=True, cwd=os.sep
        )
        if guard.stdin is not None:
            lines = "".join(f"register {pid} {number}\n" for pid, number in self._registered.items())
            guard.stdin.write(lines.encode())
        return guard

    async def _keep(self) -> None:
        while self._guard is not None:
            await self._guard.wait()
            await asyncio.sleep(RESTART_PAUSE_S)
            with contextlib.suppress(OSError):
                self._guard = await self._start()

    def _tell(self, line: str) -> None:
        # A guard that just died loses the line; its successor is told everything anew.
        if self._guard is not None and self._guard.stdin is not None and not self._guard.stdin.is_closing():
            self._guard.stdin.write(line.encode())
