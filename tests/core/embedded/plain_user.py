"""A Python that a plain user can run, for tests that start as root in a checkout or with a Python closed to others."""

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import parley
from parley.core.embedded.account import Account, reachable

NAME = "daemon"  # a plain user that every Unix has


@dataclass(frozen=True, slots=True)
class PlainUser:
    """How to start our code as a plain user: arguments for a process, and the Python."""

    python: str
    environ: Mapping[str, str]
    process: Mapping[str, Any]

    def give(self, folder: Path) -> None:
        if self.process:
            os.chown(folder, self.process["user"], self.process["group"])

    def without_name(self) -> "PlainUser":
        return replace(self, process={**self.process, "user": 65533, "group": 65533})


def plain_user(place: Path) -> PlainUser:
    """Return ourselves if we are a plain user, else another one, with linked copies of what that one cannot read."""
    if os.geteuid() != 0:
        return PlainUser(sys.executable, {}, {})
    entry = pwd.getpwnam(NAME)
    process = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    if _runs(sys.executable, {}, process):
        return PlainUser(sys.executable, {}, process)
    copy, stdlib = place / "python", Path(sysconfig.get_path("stdlib"))
    skipped = shutil.ignore_patterns("site-packages", "test", "*.a")
    _link_tree(stdlib, copy / "lib" / stdlib.name, skipped)
    (copy / "bin").mkdir(mode=0o755)
    program = copy / "bin" / "python3"
    _link(str(Path(sys.executable).resolve()), str(program))
    for library in Path(sysconfig.get_config_var("LIBDIR")).glob("libpython*.so*"):
        _link(str(library.resolve()), str(copy / "lib" / library.name))
    packages = Path(sysconfig.get_path("purelib"))
    [can_enter] = reachable(Account(entry.pw_uid, entry.pw_gid), packages)
    if not can_enter:
        _link_tree(packages, place / "packages")
        packages = place / "packages"
    copy_checkout(place / "checkout")
    environ = {
        "PYTHONHOME": str(copy),
        "PYTHONPATH": f"{place / 'checkout' / 'src'}:{packages}",
        "LD_LIBRARY_PATH": str(copy / "lib"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    assert _runs(str(program), environ, process)
    return PlainUser(str(program), environ, process)


def copy_checkout(target: Path) -> None:
    """Link what a checkout needs to serve."""
    checkout = Path(parley.__file__).parents[2]
    for name in ("src", "alembic"):
        _link_tree(checkout / name, target / name)
    target.chmod(0o755)


def _runs(program: str, environ: Mapping[str, str], process: Mapping[str, Any]) -> bool:
    try:
        return (
            subprocess.run(
                [program, "-c", "import parley.settings"],
                check=False,
                cwd=os.sep,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **environ},
                **process,
            ).returncode
            == 0
        )
    except PermissionError:
        return False


def _link_tree(source: Path, target: Path, ignore: Any = None) -> None:
    shutil.copytree(source, target, copy_function=_link, ignore=ignore)
    # The copies of the folders are ours; the files are links and keep what they are.
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        folder.chmod(0o755)


def _link(source: str, target: str) -> None:
    try:
        os.link(Path(source).resolve(), target)
    except OSError:
        shutil.copy(source, target)
