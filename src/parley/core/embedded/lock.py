"""Who works in a data folder: the lock that dies with its holder, and the note that tells others where things are."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from parley.core.embedded.errors import EmbeddedError, FolderInUseError
from parley.core.embedded.folder import DataFolder, make_data_folder

DYING_HOLDER_S = 1.0
POLL_S = 0.01

Kind = Literal["serve", "command"]
"""A `serve` stays; a `command` has the engines for a moment only, so that waiting for it makes sense."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a holder of the folder tells others: read it only while the lock is held."""

    pid: int
    kind: Kind
    database_url: str | None = None
    redis_url: str | None = None
    address: str | None = None
    temporary_folders: tuple[str, ...] = ()
    is_ready: bool = False
    """Whether the engines of a `serve` have answered, so that others can use them."""


class FolderLock:
    """The lock of a data folder. The kernel lets go of it however its holder ends."""

    def __init__(self, folder: DataFolder, descriptor: int) -> None:
        self.folder = folder
        self._descriptor = descriptor

    def tell(self, running: Running) -> None:
        """Write the note, whole or not at all."""
        draft = self.folder.running.with_suffix(".draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(running), file)
        draft.replace(self.folder.running)

    def release(self) -> None:
        self.folder.running.unlink(missing_ok=True)
        os.close(self._descriptor)


@contextlib.contextmanager
def hold_folder(folder: DataFolder, kind: Kind) -> Iterator[FolderLock]:
    """Make the folder if needed and hold it; raise FolderInUseError with a sentence where somebody else does."""
    lock = take_folder(folder, kind)
    try:
        yield lock
    finally:
        lock.release()


def take_folder(folder: DataFolder, kind: Kind) -> FolderLock:
    """Take the lock of a folder, which the caller releases."""
    make_data_folder(folder)
    try:
        descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedError(f"The lock {folder.lock} cannot be opened ({error.strerror}).") from None
    deadline = time.monotonic() + DYING_HOLDER_S
    while not _locked(descriptor):
        holder, _ = read_holder(folder)
        # A child that a killed holder was just starting has the lock until it becomes another program.
        if holder is not None and not _is_alive(holder) and time.monotonic() < deadline:
            time.sleep(POLL_S)  # noqa: TID251  # milliseconds, and nothing is served yet
            continue
        os.close(descriptor)
        raise FolderInUseError(
            f"Parley already runs in the data folder {folder.path} (process {holder or 'unknown'}). "
            "Stop it first, or set PARLEY_DATA_DIR to another folder."
        )
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()} {kind}\n".encode())
    return FolderLock(folder, descriptor)


def is_held(path: Path) -> bool:
    """Whether a running process holds the lock of a file; nobody does where there is none."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def read_holder(folder: DataFolder) -> tuple[int | None, str]:
    """Return process id and kind of who took the lock last."""
    with contextlib.suppress(OSError, ValueError):
        pid, kind = folder.lock.read_text(encoding="ascii").split()
        return int(pid), kind
    return None, ""


def find_running(folder: DataFolder) -> Running | None:
    """Return what the last holder told; it may be dead, or not have told anything yet."""
    try:
        told = json.loads(folder.running.read_text(encoding="utf-8"))
        return Running(**{**told, "temporary_folders": tuple(told["temporary_folders"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
