"""What begins warm is, but for the time it takes, what begins cold."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.warm import END_S, Warm, begin, lived

CHANCE = """
import random, secrets, uuid
from parley.core.ids import new_id
print(random.random(), uuid.uuid4(), secrets.token_hex(8), str(new_id())[-12:])
"""
AROUND = """
import os, signal, sys
from pathlib import Path
line = Path("/proc/self/cmdline").read_bytes().split(b"\\0")
print(sys.argv, os.getcwd(), sorted(os.environ.items()), sys.path[0], os.getsid(0) == os.getpid())
print([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)])
print(sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir())[:3], line[1:2], line[3:5], sys.stdin.read())
"""


def ended(start: Any, code: str, folder: Path, *words: str, **options: Any) -> tuple[int, str, str]:
    """Return how a process ended, and what it said."""
    argv = [sys.executable, "-c", code, *words]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environ = {"PATH": "/bin", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(folder)}
    with start(argv, **streams, cwd=folder, env=environ, **options) as process:
        out, err = lived(process, b"heard", END_S)
    assert isinstance(process, Warm) == (start is begin and sys.platform == "linux")
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(AROUND, id="surroundings"),
        pytest.param("import sys; sys.exit(7)", id="a code"),
        pytest.param("import sys; sys.exit('in words')", id="words"),
        pytest.param("import os; os.kill(os.getpid(), 9)", id="a signal"),
        pytest.param("import atexit; atexit.register(print, 'at last')", id="a goodbye"),
        pytest.param("import threading; threading.Timer(0.1, print, ('later',)).start()", id="a thread"),
        pytest.param("import uvloop; print(uvloop.__file__)", id="a module found before another"),
    ],
)
@pytest.mark.parametrize("new_session", [True, False])
def test_it_is_what_begins_cold(tmp_path: Path, code: str, *, new_session: bool) -> None:
    (tmp_path / "uvloop.py").touch()
    warm, cold = (
        ended(start, code, tmp_path, "one", "two words", start_new_session=new_session)
        for start in (begin, subprocess.Popen)
    )

    assert warm == cold


def test_an_error_is_shown(tmp_path: Path) -> None:
    code, _, err = ended(begin, "1 / 0", tmp_path)

    assert code == 1
    assert err.endswith("ZeroDivisionError: division by zero\n")


def test_no_two_share_their_chance(tmp_path: Path) -> None:
    drawn = [ended(begin, CHANCE, tmp_path)[1].split() for _ in range(3)]

    assert all(len(set(of_one_kind)) == 3 for of_one_kind in zip(*drawn, strict=True))
    assert len(drawn[0]) == 4
