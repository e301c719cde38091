"""A registry of the tools a test makes, on the sample articles and a clock that stands still."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from parley.agents.interface import TurnUser
from parley.agents.knowledge import SampleKnowledge, load_samples
from parley.agents.tools.outcome import Dependencies, ToolContext
from parley.agents.tools.registry import Registry
from parley.core.clock import SystemClock

NOW = datetime(2026, 1, 2, 23, 30, tzinfo=UTC)


class StandingClock(SystemClock):
    """It is always the same moment."""

    def now(self) -> datetime:
        return NOW


@pytest.fixture(scope="session")
def samples() -> SampleKnowledge:
    return load_samples()


@pytest.fixture
def dependencies(samples: SampleKnowledge) -> Dependencies:
    return Dependencies(samples, StandingClock(), {"greeting": "moin"})


@pytest.fixture
def context(dependencies: Dependencies) -> ToolContext:
    user = TurnUser(uuid.uuid4(), "Ada", "user", is_guest=False)
    return ToolContext(user, uuid.uuid4(), uuid.uuid4(), dependencies)


@pytest.fixture
def registry_of(dependencies: Dependencies) -> Callable[..., Registry]:
    return lambda *tools: Registry.of(tools, dependencies)
