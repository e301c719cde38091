"""The servers of the streaming rows: Parley, what it is measured against, and the provider all of them ask."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.servers import CORES, END_S, NO_LIMITS, pin
from tests.story.serving import HAS_PROC, Serving

# Bounds that one load tool would meet alone, where many people would not.
ONE_LOAD = {
    **NO_LIMITS,
    "PARLEY_AUTH_BCRYPT_COST": "4",
    "PARLEY_CHAT_LIVE_REPLIES": "2000",
    "PARLEY_CHAT_LOOP_LAG_S": "5",
    "PARLEY_DATABASE_POOL_TIMEOUT_S": "10",
    "PARLEY_CHAT_SOCKETS_PER_USER": "10000",
    "PARLEY_CHAT_SOCKETS_PER_ADDRESS": "10000",
    "PARLEY_MODEL_API_KEY": "none",
    "PARLEY_MODEL_NAME": "bench",
    "PARLEY_MODEL_CONCURRENCY": "2000",
    "PARLEY_MODEL_QUEUE_SIZE": "2000",
    "PARLEY_MODEL_BUDGET_TOKENS_PER_MINUTE": "1000000000",
    "PARLEY_MODEL_BUDGET_TOKENS_PER_DAY": "1000000000",
    "PARLEY_LOG_LEVEL": "warning",
}


@dataclass(frozen=True, slots=True)
class Server:
    """Where one listens, and the processes that answer: all on the same core."""

    name: str
    port: int
    pids: Sequence[int]

    def cpu_s(self) -> float:
        """Return the CPU seconds used so far, to the nanosecond where the system has a clock for other processes."""
        if not HAS_PROC:
            return 0.0
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids)

    def memory_kib(self) -> int:
        """Return what is resident."""
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in self.pids] if HAS_PROC else []
        return sum(int(text.partition("VmRSS:")[2].split()[0]) for text in texts)


@contextmanager
def parley(place: Path, upstream: str, *, workers: int = 1) -> Iterator[tuple[Server, str]]:
    """Run `parley serve` with engines of its own; yields the URL of its database as well."""
    place.mkdir(mode=0o711)
    environ = {**ONE_LOAD, "PARLEY_MODEL_BASE_URL": upstream}
    serving = Serving(place, "--workers", str(workers), environ=environ)
    try:
        serving.wait_ready()
        pids = serving.workers()
        for other in {serving.parent.pid, *serving.processes()} - pids:
            pin(other, CORES[:1])
        for pid in pids:
            pin(pid, CORES[-1:])
        yield Server("Parley", serving.port, sorted(pids)), serving.told()["database_url"]
    finally:
        serving.end()


@contextmanager
def references(upstream: str) -> Iterator[list[Server]]:
    """Run the others."""
    with ExitStack() as stack:
        yield [stack.enter_context(reference(name, upstream)) for name in ("tutorial", "relay")]


@contextmanager
def reference(name: str, upstream: str) -> Iterator[Server]:
    """Run one of them."""
    argv = [sys.executable, "-m", "tests.bench.references", name, upstream]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            pin(process.pid, CORES[-1:])
            yield Server(name, port, [process.pid])
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def provider() -> Iterator[str]:
    """Run the provider beside the load."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        argv = [sys.executable, "-m", "tests.bench.token_upstream", str(listener.fileno())]
        process = subprocess.Popen(argv, pass_fds=[listener.fileno()])
        pin(process.pid, CORES[:1])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            process.kill()
            process.wait()
