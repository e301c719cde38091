"""A real `parley serve` to live through things, in a folder that every account can enter."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.story.serving import Serving


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account can enter."""
    path = Path(tempfile.mkdtemp(prefix="test-parley-")).resolve()
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


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
