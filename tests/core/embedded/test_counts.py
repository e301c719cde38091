"""The folder of what is counted: each start has its own, and only what nobody uses any more is cleared away."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from parley.core.embedded.counts import counts_folder
from parley.core.embedded.folder import DataFolder

HOLD = """
import sys
from pathlib import Path
from parley.core.embedded.counts import counts_folder
from parley.core.embedded.folder import DataFolder
with counts_folder(DataFolder(Path(sys.argv[1])), is_production=False) as path:
    print(path, flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_kept_while_its_start_runs_and_cleared_once_that_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        with counts_folder(DataFolder(tmp_path), is_production=False) as ours:
            assert theirs.is_dir()
            assert ours.is_dir()
            assert ours != theirs
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        assert theirs.is_dir()
        with counts_folder(DataFolder(tmp_path), is_production=False):
            assert not theirs.exists()
    assert not ours.exists()
