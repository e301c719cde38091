"""The folder in which the workers of a `parley serve` keep their counts, one file a kind and worker, for all to read.

prometheus_client writes the files (T60). Here: who is alive, the gauges of the dead removed, their counts folded into
one file, so that neither sums nor files are lost or grow with every worker that ends. Blocks: for a thread.
"""

import fcntl
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

from parley.core.counts_file import FIRST_BYTES, reserve
from parley.core.embedded.lock import is_held

TURN_S = 1.0  # a reader that holds the folder for longer has been frozen: its turn is not waited for
POLL_S = 0.01
AT_ONCE = 24  # a file's name is to hold so many numbers
_FILE = re.compile(r"(counter|histogram|gauge_[a-z]+)_(\d+)\.db\Z")
_FOLDED = re.compile(r"(counter|histogram)_0\.of((?:-\d+)+)\Z")
_PAST = 0  # stands for all processes that have ended


class MetricsFolder:
    """One worker's view of the folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mine: int | None = None

    def enter(self) -> None:
        """Be known as alive until this process ends; the kernel then lets go of the lock, however it ended."""
        pid = os.getpid()
        for stale in self._path.glob(f"gauge_*_{pid}.db"):
            stale.unlink()  # of a dead process that had the same number
        self._mine = os.open(self._path / f"{pid}.alive", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._mine, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def leave(self) -> None:
        """Be dead to the others: for the end of a worker, and tests."""
        if self._mine is not None:
            os.close(self._mine)
            self._mine = None

    def sweep(self, *, folds: bool) -> list[str]:
        """Return the files whose sums are right now; fold what the dead have counted into one, in one's own turn."""
        self._finish_folding()
        found = [(match[1], int(match[2])) for file in self._path.iterdir() if (match := _FILE.match(file.name))]
        dead = sorted(pid for pid in {pid for _, pid in found} - {_PAST} if not self._is_alive(pid))
        for kind, pid in found:
            if pid in dead and kind.startswith("gauge"):
                (self._path / f"{kind}_{pid}.db").unlink(missing_ok=True)
        if folds:
            for start in range(0, len(dead), AT_ONCE):
                for kind in ("counter", "histogram"):
                    self._fold(kind, dead[start : start + AT_ONCE])
            for pid in dead:
                (self._path / f"{pid}.alive").unlink(missing_ok=True)
        return sorted(str(file) for file in self._path.glob("*.db"))

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Have the folder for oneself; False where whoever has it does not move."""
        descriptor = os.open(self._path / "turn", os.O_RDWR | os.O_CREAT, 0o600)
        latest, is_ours = time.monotonic() + TURN_S, False
        try:
            while not is_ours and time.monotonic() < latest:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    is_ours = True
                except BlockingIOError:
                    time.sleep(POLL_S)  # noqa: TID251  # a thread's
            yield is_ours
        finally:
            os.close(descriptor)

    def _is_alive(self, pid: int) -> bool:
        if self._mine is not None and pid == os.getpid():
            return True
        return is_held(self._path / f"{pid}.alive")

    def _fold(self, kind: str, pids: list[int]) -> None:
        """Add up the files of these processes; whoever is killed in the middle leaves nothing lost or counted twice."""
        sources = [self._path / f"{kind}_{pid}.db" for pid in (_PAST, *pids)]
        draft = self._path / f"{kind}.draft"
        draft.unlink(missing_ok=True)
        if not reserve(draft, sum(source.stat().st_size for source in sources if source.exists()) or FIRST_BYTES):
            return  # what the dead have counted stays where it is
        files: Any = MmapedDict  # it has no types
        total = files(str(draft))
        for source in sources:
            with suppress(FileNotFoundError):
                for key, value, _, _ in files.read_all_values_from_file(str(source)):
                    total.write_value(key, total.read_value(key)[0] + value, 0.0)
        total.close()
        os.truncate(draft, max(_used(draft), FIRST_BYTES))  # the room of each of them is needed no longer
        # From here on it counts, and says by its name what else no longer does.
        draft.rename(self._path / f"{kind}_0.of-{'-'.join(map(str, pids))}")
        self._finish_folding()

    def _finish_folding(self) -> None:
        for file in list(self._path.iterdir()):
            if found := _FOLDED.match(file.name):
                for pid in found[2].strip("-").split("-"):
                    (self._path / f"{found[1]}_{pid}.db").unlink(missing_ok=True)
                file.replace(self._path / f"{found[1]}_{_PAST}.db")


def _used(file: Path) -> int:
    """Return how many bytes of a file of counts hold something: it begins with that number."""
    with file.open("rb") as opened:
        return int.from_bytes(opened.read(4), sys.byteorder)
