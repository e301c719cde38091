"""The data folder: where it is, and making it. Never changes the permissions of a folder that was there before."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import parley
from parley.core.embedded.errors import EmbeddedError


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Names of what lives in the data folder."""

    path: Path

    @property
    def secret(self) -> Path:
        return self.path / "secret"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def running(self) -> Path:
        return self.path / "running.json"

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def run(self) -> Path:
        return self.path / "run"


def is_root() -> bool:
    return os.geteuid() == 0


def find_data_folder(configured: Path | None, environ: Mapping[str, str] | None = None) -> DataFolder:
    """Name the data folder; nothing is made yet."""
    if configured is not None:
        # resolve() besides being absolute: two spellings of one folder must not become two clusters.
        return DataFolder(configured.expanduser().resolve())
    checkout = Path(parley.__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "src" / "parley").is_dir():
        return DataFolder(checkout / ".parley")
    return DataFolder(_state_folder(os.environ if environ is None else environ) / "parley")


def _state_folder(environ: Mapping[str, str]) -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    named = environ.get("XDG_STATE_HOME")
    return Path(named) if named and Path(named).is_absolute() else Path.home() / ".local" / "state"


def make_data_folder(folder: DataFolder) -> None:
    """Make the folder if it is missing; raise EmbeddedError where this user cannot keep data in it."""
    try:
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        if _make_private(folder.path, 0o711 if is_root() else 0o700):
            return
    except (FileExistsError, NotADirectoryError):
        raise EmbeddedError(f"{folder.path} is not a folder. Set PARLEY_DATA_DIR to one.") from None
    except OSError as error:
        raise EmbeddedError(
            f"The data folder {folder.path} cannot be made ({_reason(error)}). "
            "Set PARLEY_DATA_DIR to a folder of yours."
        ) from None
    _check_owner(folder)


def make_folder(path: Path) -> Path:
    """Make one folder of ours inside the data folder."""
    _make_private(path, 0o700)
    return path


def _make_private(path: Path, mode: int) -> bool:
    """Make the folder with exactly this mode; return False where it was there before and so keeps its own."""
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        if not path.is_dir():
            raise
        return False
    path.chmod(mode)  # what the umask took away
    return True


def _check_owner(folder: DataFolder) -> None:
    """One account to a data folder: files that root leaves behind would lock everybody else out."""
    if not os.access(folder.path, os.R_OK | os.W_OK | os.X_OK):
        raise EmbeddedError(
            f"The data folder {folder.path} belongs to another user and cannot be written to. "
            "Start as that user, or set PARLEY_DATA_DIR to a folder of yours."
        )
    if folder.lock.exists() and folder.lock.stat().st_uid != os.geteuid():
        raise EmbeddedError(
            f"The data folder {folder.path} is used by the user with id {folder.lock.stat().st_uid}. "
            "Start as that user, or set PARLEY_DATA_DIR to another folder."
        )


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
