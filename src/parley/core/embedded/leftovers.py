"""Ends engines that a dead parent left in a folder, after proof that they are ours. Finds nothing else."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from parley.core.embedded.errors import EmbeddedError

DYING_S = 0.5  # engines of a killed parent are on their way out by themselves
ENDING_S = 5.0
POLL_S = 0.02
PS_TIMEOUT_S = 5.0


async def end_leftovers(folder: Path, pid_file: Path, program: str) -> None:
    """Wait until no process of this program works in the folder any more, and see to it.

    The caller holds the lock of the data folder, so whoever is found has lost its parent.
    """
    for number, patience_s in ((None, DYING_S), (signal.SIGQUIT, ENDING_S), (signal.SIGKILL, ENDING_S)):
        deadline = time.monotonic() + patience_s
        found = list(find_leftovers(folder, pid_file, program))
        for pid in found if number else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number or 0)
        while found and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
            found = list(find_leftovers(folder, pid_file, program))
        if not found:
            return
    raise EmbeddedError(f"The process {found[0]} still works in {folder} and cannot be ended. End it and start again.")


def find_leftovers(folder: Path, pid_file: Path, program: str) -> Iterator[int]:
    """Yield processes of this program that work in the folder."""
    if sys.platform == "linux":
        yield from _working_in(folder, program)
    else:
        yield from _named_by(folder, pid_file, program)


def _working_in(folder: Path, program: str) -> Iterator[int]:
    # Engines make their folder their working directory, and so do the backends of PostgreSQL.
    where = os.path.realpath(folder)
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if str(Path(entry.path, "cwd").readlink()) != where:
                continue
            # The kernel marks a binary that was replaced since.
            if Path(entry.path, "exe").readlink().name.removesuffix(" (deleted)") == program:
                yield int(entry.name)


def _named_by(folder: Path, pid_file: Path, program: str) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError, IndexError, subprocess.SubprocessError):
        pid = int(pid_file.read_text(encoding="utf-8").split()[0])
        shown = subprocess.run(  # noqa: S603  # a number of ours
            ["/bin/ps", "-o", "command=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
            timeout=PS_TIMEOUT_S,
        ).stdout
        if program in shown and str(folder) in shown:
            yield pid
