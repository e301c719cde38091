"""The lock of the data folder: one holder, named to the second, let go of by the kernel."""

import os
import signal
import subprocess
import sys

import pytest

from parley.core.embedded.errors import FolderInUseError
from parley.core.embedded.folder import DataFolder
from parley.core.embedded.lock import Running, find_running, hold_folder, read_holder

HOLD = """
import sys, time
from pathlib import Path
from parley.core.embedded.folder import DataFolder
from parley.core.embedded.lock import take_folder
lock = take_folder(DataFolder(Path(sys.argv[1])), "serve")
print("held", flush=True)
time.sleep(60)
"""


def test_the_second_is_told_folder_and_process(folder: DataFolder) -> None:
    with hold_folder(folder, "serve"):
        with (
            pytest.raises(FolderInUseError, match=f"{folder.path} .process {os.getpid()}"),
            hold_folder(folder, "serve"),
        ):
            pass
        assert read_holder(folder) == (os.getpid(), "serve")
    with hold_folder(folder, "command"):
        assert read_holder(folder) == (os.getpid(), "command")


def test_a_killed_holder_lets_go(folder: DataFolder) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder.path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(FolderInUseError, match=str(holder.pid)), hold_folder(folder, "serve"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with hold_folder(folder, "serve"):
            pass


def test_what_is_told_is_read_and_gone_at_the_end(folder: DataFolder) -> None:
    told = Running(os.getpid(), "serve", "postgresql://x", None, "http://127.0.0.1:1", ("/tmp/parley-x",))
    with hold_folder(folder, "serve") as lock:
        assert find_running(folder) is None
        lock.tell(told)
        assert find_running(folder) == told
        assert folder.running.stat().st_mode & 0o777 == 0o600
    assert find_running(folder) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "null", '{"temporary_folders": 3}'])
def test_a_torn_note_is_no_note(folder: DataFolder, text: str) -> None:
    with hold_folder(folder, "serve"):
        folder.running.write_text(text)
        assert find_running(folder) is None
