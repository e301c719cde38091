"""The long counts. Each run ends with what was measured."""

import os
from collections.abc import Callable

import pytest
from tests.bench.servers import NO_LIMITS
from tests.fixtures.warm import RUN_FOLDER
from tests.story.conftest import place, serve

__all__ = ["place", "serve"]

CHEAP = {**NO_LIMITS, "PARLEY_AUTH_BCRYPT_COST": "4", "PARLEY_LOG_LEVEL": "warning"}
Figure = Callable[[str], None]
_figures: list[str] = []


@pytest.fixture(autouse=True)
def from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services begin in an empty folder, with a cluster that waits for its disk."""
    monkeypatch.delenv(RUN_FOLDER)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Keep a measured figure for the summary."""

    def keep(text: str) -> None:
        _figures.append(f"{request.node.name}: {text}")

    return keep


@pytest.fixture
def seed(figure: Figure) -> int:
    """What chance starts from; PARLEY_SOAK_SEED repeats a run."""
    number = int(os.environ.get("PARLEY_SOAK_SEED") or int.from_bytes(os.urandom(3)))
    figure(f"seed {number}")
    return number


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    terminalreporter.section("measured")
    for text in _figures:
        terminalreporter.write_line(text)
