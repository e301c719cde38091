"""A provider for each test."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest
from tests.agents.clients.provider import Provider, open_provider
from tests.fixtures.guards import LoopGuard

Provide = Callable[..., AbstractAsyncContextManager[Provider]]


@pytest.fixture
def provide(loop_guard: LoopGuard) -> Provide:
    """Run a scripted provider, with settings of the test's own for its client."""
    return partial(open_provider, loop_guard)
