"""The two servers that are measured, each on a core of its own, apart from who asks them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.story.serving import HAS_PROC, Serving

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
END_S = 30.0
LIMITS = ("GENERAL", "LISTS", "ASK", "LOGIN", "REGISTER")
NO_LIMITS = {f"PARLEY_LIMIT_{name}": "1000000/second" for name in LIMITS}


@dataclass(frozen=True, slots=True)
class Server:
    """A server under test: where it listens, and the one process that answers."""

    port: int
    pid: int

    def cpu_s(self) -> float | None:
        """Return the CPU seconds it has used so far, where the system tells."""
        if not HAS_PROC:
            return None
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def ours(place: Path, **environ: str) -> Iterator[tuple[Serving, Server]]:
    """Run `parley serve` with one worker and engines of its own."""
    serving = Serving(place, "--workers", "1", environ={**NO_LIMITS, **environ})
    try:
        serving.wait_ready()
        [pid] = serving.workers()
        for other in {serving.parent.pid, *serving.processes()} - {pid}:
            pin(other, CORES[:1])
        pin(pid, CORES[-1:])
        yield serving, Server(serving.port, pid)
    finally:
        serving.end()


@contextmanager
def bare() -> Iterator[Server]:
    """Run the reference."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bare"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            pin(process.pid, CORES[-1:])
            yield Server(port, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def pin(pid: int, cores: list[int]) -> None:
    """Keep a process with all its threads on these cores, where there are several and the system can."""
    if len(CORES) < 2 or not HAS_PROC:
        return
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)
