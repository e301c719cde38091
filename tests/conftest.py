"""One PostgreSQL and one Valkey a run, an empty database a test, and the guards over all of them."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis.asyncio
import structlog
from hypothesis import HealthCheck, settings
from tests.fixtures.databases import Databases
from tests.fixtures.guards import LoopGuard, is_asynchronous, loop_guard, no_task_left
from tests.fixtures.service import Service, in_process, on_socket, settings_for
from tests.fixtures.shortcuts import take_shortcuts
from tests.fixtures.warm import RUN_FOLDER, let_go

from parley.core.garbage import settle_garbage
from parley.core.logging import hide_secrets
from parley.settings import Settings

__all__ = ["loop_guard", "no_task_left"]

# The same cases each run, however busy the machine: a test that fails must fail for whoever looks.
settings.register_profile(
    "parley", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("parley")

DATABASE, REDIS = "PARLEY_TEST_DATABASE_URL", "PARLEY_TEST_REDIS_URL"
ENGINES_START_S = 60.0
TESTS = Path(__file__).parent
LONG = {TESTS / "story", TESTS / "ops", TESTS / "cli", TESTS / "core" / "embedded"}
_databases = Databases()
_engines: list[tuple[subprocess.Popen[str], tempfile.TemporaryDirectory[str]]] = []


def pytest_configure(config: pytest.Config) -> None:
    """Start the engines before any worker starts; workers inherit where they are."""
    take_shortcuts()
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    folder = tempfile.TemporaryDirectory(prefix="parley-tests-")
    script = Path(__file__).parent / "fixtures" / "engines.py"
    # Root's PostgreSQL runs as another user, who must be able to pass through.
    Path(folder.name).chmod(0o711)
    process = subprocess.Popen(
        [sys.executable, str(script), str(Path(folder.name) / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    _engines.append((process, folder))
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        pytest.exit("the test engines did not start", returncode=1)
    where = json.loads(line)
    os.environ[RUN_FOLDER] = folder.name
    os.environ[DATABASE], os.environ[REDIS] = where["database_url"], where["redis_url"]


def pytest_unconfigure() -> None:
    """End the engines: theirs is the pipe that closes."""
    for process, folder in _engines:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(ENGINES_START_S)
        assert process.stdout is not None
        process.stdout.close()
        folder.cleanup()
    _engines.clear()
    let_go()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ask every asynchronous test whether it leaves a task behind; begin with what takes long.

    Of two test processes one has the first half then. What the other takes over from its end is short, so that
    services that tests share are started once, and nobody is left with a long test when the other is done.
    """
    for item in items:
        if is_asynchronous(item):
            item.fixturenames.insert(0, "no_task_left")  # type: ignore[attr-defined]
    items.sort(key=lambda item: item.path.parent not in LONG)


def pytest_collection_finish() -> None:
    """Collect garbage as a worker does: the many tests go through much that stays."""
    settle_garbage()


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[dict[str, Any]]]:
    """What the service logs, as it would be rendered; shown where a test fails."""
    events: list[dict[str, Any]] = []

    def keep(_: object, __: str, event: structlog.typing.EventDict) -> str:
        events.append(dict(event))
        return ""

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            hide_secrets,
            keep,
        ],
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    yield events
    structlog.contextvars.clear_contextvars()
    for event in events:
        print(*(f"{key}={value}" for key, value in event.items()))


@pytest.fixture
def at_leisure(loop_guard: LoopGuard) -> Iterator[None]:
    """Guard no loop: what serves runs in processes of its own, and this one may look around in between."""
    with loop_guard.paused():
        yield


@pytest_asyncio.fixture
async def database_url() -> AsyncIterator[str]:
    """A migrated, empty database that no other test uses meanwhile."""
    own = await _databases.take(os.environ[DATABASE])
    yield own
    await _databases.give_back(os.environ[DATABASE], own)


@pytest_asyncio.fixture
async def redis_url(worker_id: str) -> str:
    """A Redis database of this test worker's own, emptied."""
    # Never 0: in that is whoever connects, until it has chosen its own.
    number = 1 + (int(worker_id.removeprefix("gw")) % 15 if worker_id.startswith("gw") else 0)
    url = os.environ[REDIS].replace("db=0", f"db={number}")
    client = redis.asyncio.Redis.from_url(url)
    await client.flushdb()
    await client.aclose()
    return url


Start = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def settings_with(database_url: str, redis_url: str) -> Callable[..., Settings]:
    """Make settings for this test's database and Redis."""

    def make(**variables: str) -> Settings:
        return settings_for(database_url, redis_url, **variables)

    return make


@pytest.fixture
def start(settings_with: Callable[..., Settings], loop_guard: LoopGuard) -> Start:
    """Start a service with settings of the test's own, in this process."""

    def begin(**variables: str) -> AbstractAsyncContextManager[Service]:
        return in_process(settings_with(**variables), loop_guard)

    return begin


@pytest.fixture
def start_on_socket(settings_with: Callable[..., Settings], loop_guard: LoopGuard) -> Start:
    """Start a service with settings of the test's own, on a real socket."""

    def begin(**variables: str) -> AbstractAsyncContextManager[Service]:
        return on_socket(settings_with(**variables), loop_guard)

    return begin


@pytest_asyncio.fixture
async def service(start: Start) -> AsyncIterator[Service]:
    """A service with the usual settings."""
    async with start() as running:
        yield running
