"""A real `parley serve` to live through things, in a folder that every account can enter."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.story.chatting import Chatting, Person, Stage, staged
from tests.story.serving import Serving

SLOW_TOOL_S = 3.0
SLOW_AGENT = f'''
"""An agent whose tool takes its time, in a thread, as a careless tool would."""
import asyncio, time
from parley.agents.interface import Finished, TextGrew, ToolCalled, ToolFinished

async def answer(turn):
    yield TextGrew("Let me look. ")
    yield ToolCalled("call-1", "look", "Looking", None)
    await asyncio.to_thread(time.sleep, {SLOW_TOOL_S})
    yield ToolFinished("call-1", True, "Found it")
    yield TextGrew("Here it is.")
    yield Finished("stop")
'''


@contextmanager
def made_place() -> Iterator[Path]:
    """Make a folder that every account can enter."""
    path = Path(tempfile.mkdtemp(prefix="test-parley-")).resolve()
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of the test's own."""
    with made_place() as path:
        yield path


@pytest.fixture(scope="module")
def module_place() -> Iterator[Path]:
    """A folder of the module's own."""
    with made_place() as path:
        yield path


@pytest.fixture(scope="session")
def desk() -> Iterator[Chatting]:
    """A service with four workers, shared by all tests that leave it as it was."""
    with made_place() as path:
        (path / "slow_agent.py").write_text(SLOW_AGENT)
        places = [str(path), *filter(None, [os.environ.get("PYTHONPATH")])]
        running = Chatting(path, "--workers", "4", environ={"PYTHONPATH": os.pathsep.join(places)})
        yield running
        running.end()


@pytest_asyncio.fixture
async def stage(desk: Chatting, at_leisure: None) -> AsyncIterator[Stage]:
    """Hold what one test opens on the shared service."""
    async with staged(desk) as made:
        yield made


@pytest_asyncio.fixture
async def anna(stage: Stage) -> Person:
    """Somebody with an account."""
    return await stage.chatting.person()


@pytest.fixture
def serve(place: Path) -> Iterator[Callable[..., Serving]]:
    """Start `parley serve` with these arguments; all of it is gone at the end of the test."""
    started: list[Serving] = []

    def start(*arguments: str, **options: Any) -> Serving:
        started.append(Serving(place, *arguments, **options))
        return started[-1]

    yield start
    for serving in started:
        serving.end()
