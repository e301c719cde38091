"""A thread that watches the event loop: names the frame that holds it, and ends a worker whose loop is lost (T27).

uvicorn and our own parent see processes, not loops. Whoever started the worker starts another. What holds the loop and
lets no thread run either, a regular expression that never ends, is ended by the kernel after as much CPU time.
"""

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import structlog

from parley.core.metrics import Metrics
from parley.core.pulse import Pulse

log = structlog.get_logger(__name__)

LOOKS = 5  # at the pulse, in the time after which a loop counts as held
FRAMES = 12  # of a stack, the innermost
LATER_S = 5.0  # of CPU time, after which the kernel does what the thread could not
LOST_EXIT = 70  # as sysexits.h has it: an internal error
_PACKAGE = os.sep + "parley" + os.sep


class Watchdog:
    """Watches the loop of the thread that makes it. Its looks are its clock: a stopped process has lost no time."""

    def __init__(
        self, pulse: Pulse, metrics: Metrics, *, blocked_s: float, stuck_s: float, give_up: Callable[[], None]
    ) -> None:
        """`give_up` ends the process; it gets its last words out first."""
        self._pulse, self._blocked = pulse, metrics.loop_blocked
        self._every_s = blocked_s / LOOKS
        self._stuck_looks = max(round(stuck_s / self._every_s), LOOKS + 1)
        self._cpu_s = stuck_s + LATER_S
        self._give_up = give_up
        self._loop_thread = threading.get_ident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch. From the main thread."""
        # Without the interpreter's lock, and by default the end of the process.
        faulthandler.register(signal.SIGVTALRM, chain=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()
        self._thread.join()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def _watch(self) -> None:
        beats, still = -1, 0
        while not self._stop.wait(self._every_s):
            if self._pulse.beats != beats or not self._pulse.is_felt:
                beats, still = self._pulse.beats, 0
                signal.setitimer(signal.ITIMER_VIRTUAL, self._cpu_s)  # CPU time: a pause of the machine is no fault
                continue
            still += 1
            if still == LOOKS:
                self._name()
            elif still >= self._stuck_looks:
                self._end()
                return

    def _name(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # there is no other way to ask
        stack = list(_stack(frame))
        ours = next((place for place in stack if _PACKAGE in place), None)
        log.error(
            "loop_blocked",
            frame=stack[0] if stack else None,
            called_from=ours,
            stack=stack[:FRAMES],
            after_s=round(LOOKS * self._every_s, 3),
        )
        self._blocked.inc()

    def _end(self) -> None:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():  # noqa: SLF001  # as above
            log.critical("loop_lost", thread=names.get(ident, str(ident)), stack=list(_stack(frame))[:FRAMES])
        self._give_up()


def _stack(frame: FrameType | None) -> Iterator[str]:
    """Yield where a stack stands, the innermost first: names and lines, nothing of what is in them."""
    while frame is not None:
        code = frame.f_code
        yield f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}"
        frame = frame.f_back
