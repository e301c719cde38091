"""Files of counts on a full disk: no hole in them to fall into, and counting goes on without a file."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.multiprocess import MultiProcessCollector

from parley.core import counts_file
from parley.core.counts_file import FIRST_BYTES

CountsFile: Any = counts_file.CountsFile  # its base has no types
NAMES = [f"a count with a long name, number {number:04d}" for number in range(2_000)]  # more than fit into the first


@pytest.fixture
def full_from(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the disk have room for files of so many bytes."""

    def begin(size: int) -> None:
        allocate = os.posix_fallocate

        def refuse(descriptor: int, offset: int, length: int) -> None:
            if length > size and "memfd" not in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
                raise OSError(errno.ENOSPC, "No space left on device")
            allocate(descriptor, offset, length)

        monkeypatch.setattr(os, "posix_fallocate", refuse)

    return begin


def count(file: Any) -> None:
    for number, name in enumerate(NAMES):
        file.write_value(name, float(number), 0.0)


def counted(file: Any) -> list[float]:
    return [file.read_value(name)[0] for name in NAMES]


def test_every_byte_has_its_place(tmp_path: Path) -> None:
    file = CountsFile(str(tmp_path / "counter_1.db"))
    for _ in range(2):
        found = (tmp_path / "counter_1.db").stat()
        assert found.st_blocks * 512 >= found.st_size >= FIRST_BYTES
        count(file)
    assert found.st_size > FIRST_BYTES
    assert counted(file) == list(range(len(NAMES)))
    again = CountsFile(str(tmp_path / "counter_1.db"), read_mode=True)
    assert [value for _, value, _ in again.read_all_values()] == list(range(len(NAMES)))
    file.close()
    again.close()


def test_one_that_begins_is_read_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape reads all files that are there, also while a new worker makes its own."""
    seen, allocate = [], os.posix_fallocate

    def look() -> None:
        files = [str(file) for file in tmp_path.glob("*.db")]
        seen.append((len(files), len(list(MultiProcessCollector.merge(files)))))  # type: ignore[no-untyped-call]

    def slowly(descriptor: int, offset: int, length: int) -> None:
        look()
        allocate(descriptor, offset, length)
        look()

    monkeypatch.setattr(os, "posix_fallocate", slowly)
    file = CountsFile(str(tmp_path / "counter_1.db"))
    look()
    file.write_value('["a", "a_total", {}, "help"]', 1.0, 0.0)
    look()
    file.close()
    assert seen == [(0, 0), (0, 0), (1, 0), (1, 1)]


def test_who_finds_no_room_counts_in_memory(tmp_path: Path, full_from: Any) -> None:
    full_from(0)
    file = CountsFile(str(tmp_path / "counter_1.db"))
    count(file)
    assert counted(file) == list(range(len(NAMES)))
    assert list(tmp_path.iterdir()) == [], "no file that others would take for whole"
    file.close()


def test_who_finds_no_more_room_goes_on_in_memory(tmp_path: Path, full_from: Any) -> None:
    full_from(FIRST_BYTES)
    file = CountsFile(str(tmp_path / "counter_1.db"))
    count(file)
    assert counted(file) == list(range(len(NAMES)))
    assert (tmp_path / "counter_1.db").stat().st_size == FIRST_BYTES
    file.close()
