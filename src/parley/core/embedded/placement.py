"""Where the cluster, the sockets and the logs of the engines go. Decides and makes folders; starts nothing."""

import hashlib
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from parley.core.embedded.account import Account, postgres_account, reachable
from parley.core.embedded.binaries import SYSTEM_FOLDER, make_system_folder, postgres_binaries
from parley.core.embedded.errors import EmbeddedError
from parley.core.embedded.folder import DataFolder, make_folder

SOCKET_PATH_BYTES = 100  # the kernel's limit is 104 on macOS and 108 on Linux
TEMPORARY_PREFIX = "parley-"
MAJOR_VERSION = "18"


@dataclass(frozen=True, slots=True)
class PostgresPlace:
    """All paths of one PostgreSQL, and who it runs as."""

    account: Account | None
    binaries: Path
    cluster: Path
    socket_folder: Path
    log: Path

    @property
    def is_initialised(self) -> bool:
        return (self.cluster / "PG_VERSION").is_file()


@dataclass(frozen=True, slots=True)
class ValkeyPlace:
    """All paths of one Valkey."""

    folder: Path
    socket: Path
    log: Path


def place_postgres(folder: DataFolder) -> PostgresPlace:
    """Find the place of PostgreSQL; raise EmbeddedError rather than start an empty cluster beside a full one."""
    account = postgres_account()
    binaries = postgres_binaries(account)
    cluster = _cluster(folder, account)
    _check_cluster(cluster)
    return PostgresPlace(
        account=account,
        binaries=binaries,
        cluster=cluster,
        socket_folder=_socket_folder(cluster, ".s.PGSQL.5432", account),
        log=make_folder(folder.logs) / "postgres.log",
    )


def place_valkey(folder: DataFolder) -> ValkeyPlace:
    """Find the place of Valkey."""
    home = make_folder(folder.valkey)
    return ValkeyPlace(
        folder=home,
        socket=_socket_folder(home, "valkey.sock", None) / "valkey.sock",
        log=make_folder(folder.logs) / "valkey.log",
    )


def _cluster(folder: DataFolder, account: Account | None) -> Path:
    if account is None:
        return folder.postgres
    mark = hashlib.sha256(os.fsencode(folder.path)).hexdigest()[:12]
    elsewhere = SYSTEM_FOLDER / mark / "postgres"
    [can_enter] = reachable(account, folder.path)
    if can_enter:
        # A cluster that was placed elsewhere while the folder was closed stays the one in use.
        return elsewhere if elsewhere.exists() and not folder.postgres.exists() else folder.postgres
    if folder.postgres.exists():
        raise EmbeddedError(
            f"PostgreSQL runs as the user nobody, who can no longer enter {folder.path}, where its data is. "
            f"Give that user a way in (chmod o+x {_closed_folder(folder.path)}), or set DATABASE_URL."
        )
    try:
        make_system_folder(elsewhere.parent)
    except OSError as error:
        raise EmbeddedError(
            f"{elsewhere.parent} cannot be made ({error.strerror}), and PostgreSQL, which runs as the user nobody, "
            f"cannot enter {folder.path}. Start as a plain user, or set DATABASE_URL."
        ) from None
    return elsewhere


def _closed_folder(path: Path) -> Path:
    for folder in (*reversed(path.parents), path):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return path


def _check_cluster(cluster: Path) -> None:
    try:
        version = (cluster / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        if cluster.exists() and any(cluster.iterdir()):
            raise EmbeddedError(f"{cluster} is not a PostgreSQL cluster. Move it away, or set DATABASE_URL.") from None
        return
    except PermissionError:
        raise EmbeddedError(f"The PostgreSQL cluster {cluster} belongs to another user.") from None
    if version != MAJOR_VERSION:
        raise EmbeddedError(
            f"The cluster {cluster} was made by PostgreSQL {version}; this is {MAJOR_VERSION}. "
            "Dump it with the old version, or set PARLEY_DATA_DIR to a new folder."
        )


def _socket_folder(home: Path, name: str, account: Account | None) -> Path:
    # A comma separates hosts where a path of PostgreSQL's clients is read.
    if len(os.fsencode(home / name)) <= SOCKET_PATH_BYTES and "," not in str(home):
        return home
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=_short_temporary_folder(account)))
    if account is not None:
        os.chown(folder, account.user, account.group)
    return folder


def _short_temporary_folder(account: Account | None) -> str:
    """Return the temporary folder, unless its own path is long or the account cannot enter it."""
    named = tempfile.gettempdir()
    is_short = len(os.fsencode(named)) <= SOCKET_PATH_BYTES // 2
    return named if is_short and all(reachable(account, Path(named))) else "/tmp"  # noqa: S108  # mkdtemp makes it private


def remove_temporary_folders(folders: list[Path]) -> None:
    """Remove socket folders of ours; a name that is not ours is left alone."""
    for folder in folders:
        if folder.name.startswith(TEMPORARY_PREFIX):
            shutil.rmtree(folder, ignore_errors=True)
