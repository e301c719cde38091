"""Both engines, real: what they keep, where their sockets go, and how they heal from what a kill leaves."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.core.embedded.keeping import ask, keep, kept
from tests.core.embedded.plain_user import plain_user

from parley.core.embedded.engines import Engines, attached_or_started, open_engines, placed_engines
from parley.core.embedded.errors import EmbeddedError
from parley.core.embedded.folder import DataFolder
from parley.core.embedded.lock import Running, find_running, hold_folder
from parley.core.embedded.placement import ValkeyPlace, place_valkey


async def test_rows_and_keys_survive_a_restart(folder: DataFolder) -> None:
    async with open_engines(folder) as engines:
        await keep(engines)
        assert (await ask(engines, "SHOW server_version"))[0][0].startswith("18")  # type: ignore[attr-defined]  # text
        assert await ask(engines, "SHOW listen_addresses") == [("",)]
        assert await ask(engines, "SHOW fsync") == [("on",)]
        assert await ask(
            engines, "SELECT datlocprovider::text, datlocale FROM pg_database WHERE datname = 'parley'"
        ) == [("b", "C.UTF-8")]
    began = time.monotonic()
    async with open_engines(folder) as engines:
        print(f"restarted in {time.monotonic() - began:.2f} s")
        assert await kept(engines) == ("grüße", "grüße")


SPACED = 'it\'s a "quoted" % näme'


@pytest.mark.parametrize("name", [SPACED, "a, b", "deep" * 25])
async def test_any_path_will_do(place: Path, name: str) -> None:
    folder = DataFolder(place / name / "data")
    async with open_engines(folder, fast=True) as engines:
        await keep(engines)
        told = find_running(folder)
        assert told is not None
        assert all(Path(path).is_dir() for path in told.temporary_folders)
        assert len(told.temporary_folders) == (0 if name == SPACED else 2)
        for path in told.temporary_folders:
            assert Path(path).stat().st_mode & 0o777 == 0o700
    assert not any(Path(path).exists() for path in told.temporary_folders)
    async with open_engines(folder, fast=True) as engines:
        assert await kept(engines) == ("grüße", "grüße")


async def test_permissions_of_parents_stay_and_sockets_are_private(folder: DataFolder, place: Path) -> None:
    before = [path.stat().st_mode for path in (place, *place.parents)]
    async with open_engines(folder, fast=True):
        assert (folder.postgres / ".s.PGSQL.5432").stat().st_mode & 0o077 == 0
        assert folder.postgres.stat().st_mode & 0o777 == 0o700
        assert folder.valkey.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode for path in (place, *place.parents)] == before


OPEN = """
import asyncio, sys
from pathlib import Path
from parley.core.embedded.engines import open_engines
from parley.core.embedded.folder import DataFolder

async def main():
    print("starting", flush=True)
    async with open_engines(DataFolder(Path(sys.argv[1])), fast=len(sys.argv) > 2) as engines:
        print("ready", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("delay_s", [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5])
async def test_a_kill_in_the_middle_of_the_first_start_heals(folder: DataFolder, delay_s: float) -> None:
    with subprocess.Popen([sys.executable, "-c", OPEN, str(folder.path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        await asyncio.sleep(delay_s)
        parent.kill()
    async with open_engines(folder, fast=True) as engines:
        await keep(engines)
    assert list(folder.path.glob("postgres.draft-*")) == []


async def test_a_killed_parent_leaves_nothing_in_the_way_and_nothing_committed_is_lost(folder: DataFolder) -> None:
    async with open_engines(folder) as engines:
        await keep(engines)
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", OPEN, str(folder.path)], stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            assert [parent.stdout.readline(), parent.stdout.readline()] == [b"starting\n", b"ready\n"]
            parent.kill()
        began = time.monotonic()
        async with open_engines(folder) as engines:
            print(f"taken over in {time.monotonic() - began:.2f} s")
            assert await kept(engines) == ("grüße", "grüße")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a process that can be proved ours")
async def test_engines_that_outlived_their_parent_are_ended(folder: DataFolder) -> None:
    with subprocess.Popen([sys.executable, "-c", OPEN, str(folder.path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        parent.stdout.readline()
        pid = int((folder.postgres / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGSTOP)  # so that it cannot follow its parent by itself
        valkey = int((folder.valkey / "valkey.pid").read_text())
        parent.kill()
    async with open_engines(folder) as engines:
        assert await ask(engines, "SELECT 1") == [(1,)]
        for left in (pid, valkey):
            assert not Path(f"/proc/{left}/exe").exists()


async def test_a_number_that_is_somebody_elses_now_is_no_predecessor(folder: DataFolder) -> None:
    async with open_engines(folder, fast=True):
        pass
    stranger = await asyncio.create_subprocess_exec("sleep", "60", **({"user": 65534} if os.geteuid() == 0 else {}))  # type: ignore[arg-type]  # options of Popen
    try:
        for path in (folder.postgres / "postmaster.pid", folder.postgres / ".s.PGSQL.5432.lock"):
            path.write_text(f"{stranger.pid}\n{folder.postgres}\n1\n5432\n{folder.postgres}\n\n\nready\n")
        async with open_engines(folder, fast=True) as engines:
            assert await ask(engines, "SELECT 1") == [(1,)]
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


async def test_what_is_no_cluster_of_ours_is_never_touched(folder: DataFolder) -> None:
    folder.postgres.mkdir(parents=True)
    (folder.postgres / "holiday.txt").write_text("dear")
    with pytest.raises(EmbeddedError, match="is not a PostgreSQL cluster"):
        async with open_engines(folder):
            pass
    (folder.postgres / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedError, match="was made by PostgreSQL 17"):
        async with open_engines(folder):
            pass
    assert (folder.postgres / "holiday.txt").read_text() == "dear"


async def test_a_command_attaches_to_a_running_serve_and_leaves_it_running(folder: DataFolder) -> None:
    with hold_folder(folder, "serve") as lock:
        lock.tell(Running(os.getpid(), "serve", "postgresql://told", "unix://told", is_ready=True))
        async with attached_or_started(folder) as engines:
            assert engines == Engines("postgresql://told", "unix://told")


async def test_a_command_waits_only_so_long_for_a_serve_that_is_starting(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.core.embedded.engines.HOLDER_TIMEOUT_S", 0.1)
    with hold_folder(folder, "serve") as lock:
        lock.tell(Running(os.getpid(), "serve", "postgresql://told", "unix://told"))
        with pytest.raises(EmbeddedError, match=rf"process {os.getpid()}\) did not get ready within 0.1 s"):
            async with attached_or_started(folder):
                pass


def test_what_a_dead_serve_told_is_over_before_the_next_has_its_places(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def place(folder: DataFolder) -> ValkeyPlace:
        told.append(find_running(folder))
        return place_valkey(folder)

    monkeypatch.setattr("parley.core.embedded.engines.place_valkey", place)
    with hold_folder(folder, "serve") as lock:
        lock.tell(Running(1, "serve", "postgresql://told", "unix://told", is_ready=True))
        left = folder.running.read_text()
    folder.running.write_text(left)
    with placed_engines(folder, "serve", with_postgres=False) as placed:
        assert placed.is_takeover
    assert told == [Running(os.getpid(), "serve")]


async def test_two_commands_take_turns(folder: DataFolder) -> None:
    async def command() -> bool:
        async with attached_or_started(folder) as engines:
            return await ask(engines, "SELECT 1") == [(1,)]

    assert all(await asyncio.gather(command(), command()))


def test_a_plain_user_needs_no_help(place: Path) -> None:
    """As root: somebody else's own folder. As a plain user, everything else here says so already."""
    plain = plain_user(place)
    home = place / "home"
    home.mkdir(mode=0o700)
    plain.give(home)
    for _ in range(2):
        with subprocess.Popen(
            [plain.python, "-c", OPEN, str(home / "data"), "fast"],
            stdout=subprocess.PIPE,
            cwd=home,
            env={**os.environ, **plain.environ},
            **plain.process,
        ) as parent:
            assert parent.stdout is not None
            assert [parent.stdout.readline(), parent.stdout.readline()] == [b"starting\n", b"ready\n"]
            assert (home / "data" / "postgres").stat().st_uid == home.stat().st_uid
            parent.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a name")
def test_a_user_without_a_name_is_told_so(place: Path) -> None:
    plain = plain_user(place).without_name()
    home = place / "home"
    home.mkdir(mode=0o700)
    plain.give(home)
    done = subprocess.run(
        [plain.python, "-c", OPEN, str(home / "data")],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env={**os.environ, **plain.environ},
        **plain.process,
    )
    assert "the user id 65533 has none here" in done.stderr
