"""The guard alone, as a process: it ends what it was told of, when its parent's pipe ends."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from parley.core.embedded.lifeline import GUARD

SLEEP = [sys.executable, "-I", "-S", "-c", "import time; print(flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    *("-I", "-S", "-c"),
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)",
]


@pytest.fixture
def guard() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-I", "-S", str(GUARD)], stdin=subprocess.PIPE, bufsize=0) as process:
        yield process
        process.kill()


def start(command: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def tell(guard: subprocess.Popen[bytes], line: str) -> None:
    assert guard.stdin is not None
    guard.stdin.write(f"{line}\n".encode())


def test_it_ends_what_is_registered_and_nothing_else(guard: subprocess.Popen[bytes]) -> None:
    registered, stubborn, forgotten = start(SLEEP), start(STUBBORN), start(SLEEP)
    with registered, stubborn, forgotten:
        for process in (registered, stubborn, forgotten):
            tell(guard, f"register {process.pid} 15")
        tell(guard, f"forget {forgotten.pid}")
        began = time.monotonic()
        assert guard.stdin is not None
        guard.stdin.close()

        assert registered.wait(10) == -signal.SIGTERM
        assert stubborn.wait(10) == -signal.SIGKILL
        assert time.monotonic() - began < 8
        assert guard.wait(10) == 0
        assert forgotten.poll() is None
        forgotten.kill()


def test_it_does_not_mind_the_signals_of_a_terminal(guard: subprocess.Popen[bytes]) -> None:
    with start(SLEEP) as sleeper:
        tell(guard, f"register {sleeper.pid} 9")
        time.sleep(0.3)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            guard.send_signal(number)
        time.sleep(0.2)
        assert guard.poll() is None
        assert guard.stdin is not None
        guard.stdin.close()
        assert sleeper.wait(10) == -signal.SIGKILL
