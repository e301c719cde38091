"""The tests of the widget's modules, which are JavaScript and run where Node does."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
OLDEST = (20, 19)  # takes a file for the module that it is
NODE = shutil.which("node")


def _version() -> tuple[int, ...]:
    if NODE is None:
        return (0,)
    told = subprocess.run([NODE, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    return tuple(int(part) for part in told.strip().removeprefix("v").split(".")[:2])


needs_node = pytest.mark.skipif(
    _version() < OLDEST, reason="needs Node 20.19 or later: the widget's modules were not tested"
)


def run_all(**environ: str) -> None:
    """All files `*.test.js` beside this one pass."""
    assert NODE is not None
    files = sorted(str(path) for path in HERE.glob("*.test.js"))
    done = subprocess.run(
        [NODE, "--test", *files],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **environ},
    )
    assert done.returncode == 0, done.stdout[-6000:]


@needs_node
def test_the_modules_of_the_widget_do_what_their_own_tests_say() -> None:
    run_all()
