"""The real `parley` command in a process of its own, in an empty folder and an environment without anything of ours.

`parley` forks it from a process that has everything imported; `cold_parley` is `python -m parley` as anybody starts it,
and at least one test of each command asks for it.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from tests.conftest import DATABASE
from tests.fixtures.warm import begin, inherited, lived

COMMAND_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line a person reads: anything else on stderr is a failure of the test."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        return lines[0].removeprefix("error: ")


Parley = Callable[..., Coroutine[Any, Any, Outcome]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder a command runs in; a `.env` there is read."""
    return tmp_path


def runner(folder: Path, begin: Callable[..., subprocess.Popen[bytes]]) -> Parley:
    """Return what runs the command with its arguments, what it reads, and the environment variables it gets."""

    async def run(*arguments: str, stdin: str = "", **variables: str) -> Outcome:
        environ = {"PARLEY_DATA_DIR": str(folder / "data"), "PARLEY_PORT": "0", "PARLEY_AUTH_BCRYPT_COST": "4"}
        with begin(
            [sys.executable, "-m", "parley", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={**inherited(), **environ, **variables},
        ) as process:
            out, err = await asyncio.to_thread(lived, process, stdin.encode(), COMMAND_TIMEOUT_S)
        print(*arguments, "->", process.returncode, out.decode(), err.decode(), sep="\n")
        return Outcome(process.returncode, out.decode(), err.decode())

    return run


@pytest.fixture
def parley(folder: Path) -> Parley:
    """The command, begun with everything imported."""
    return runner(folder, begin)


@pytest.fixture
def cold_parley(folder: Path) -> Parley:
    """The command as anybody starts it."""
    return runner(folder, subprocess.Popen)


@pytest.fixture
def stores(database_url: str, redis_url: str) -> dict[str, str]:
    """Variables that name the test's database and Redis."""
    return {"DATABASE_URL": database_url, "REDIS_URL": redis_url}


@pytest_asyncio.fixture
async def empty_database_url() -> AsyncIterator[str]:
    """A database without any table."""
    url, name = os.environ[DATABASE], f"empty_{uuid.uuid4().hex[:16]}"
    admin = await asyncpg.connect(url)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield url.replace("/parley?", f"/{name}?")
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
def data_folder() -> Iterator[Path]:
    """A data folder that every account can enter: pytest's own are closed to root's PostgreSQL."""
    parent = Path(tempfile.mkdtemp(prefix="test-parley-")).resolve()
    parent.chmod(0o711)
    yield parent / "data"
    shutil.rmtree(parent)
