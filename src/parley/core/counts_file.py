"""A file of counts whose every byte has its place on the disk: one that is mapped and has none kills who writes to it.

prometheus_client makes its files with holes. On a full disk the first count that falls into one is a SIGBUS, and so is
the first of whoever is started in its place (T60). Where there is no room a process counts in memory, for itself.
"""

import mmap
import os
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

log = structlog.get_logger(__name__)

FIRST_BYTES = 65_536
ENTRY_BYTES = 40  # of a value beside its name, at most


class CountsFile(MmapedDict):
    """What prometheus_client writes to, without holes."""

    _f: Any
    _m: Any
    _used: int
    _capacity: int

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # as in its base
        path = Path(filename)
        if not read_mode and not path.exists():
            draft = path.with_suffix(".draft")  # who reads all files would stumble over one that is empty yet
            if reserve(draft, FIRST_BYTES):
                draft.rename(path)
            else:
                filename = _in_memory()
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        if self._used + len(key.encode()) + ENTRY_BYTES > self._capacity:
            self._grow()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self) -> None:
        capacity = 2 * self._capacity
        if not reserve(Path(self._f.name), capacity):
            kept, file = self._m[: self._used], Path(_in_memory()).open("a+b")  # noqa: SIM115  # kept open, as in its base
            file.truncate(capacity)
            self._f.close()
            self._f = file
        else:
            kept = b""
        self._capacity = capacity
        self._m = mmap.mmap(self._f.fileno(), capacity)
        self._m[: len(kept)] = kept


def use_solid_files() -> None:
    """Let prometheus_client write to these from now on."""
    values.MmapedDict = CountsFile  # type: ignore[attr-defined]


def reserve(path: Path, size: int) -> bool:
    """Make a file this long, with a place for every byte; False where there is no room, and then it is not there."""
    is_new = not path.exists()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.ftruncate(descriptor, size)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("counts_not_shared", reason=type(error).__name__)
        if is_new:
            path.unlink(missing_ok=True)
        return False
    return True


def _in_memory() -> str:
    return f"/proc/self/fd/{os.memfd_create('counts')}"
