"""The model of the streaming contract with 10,000 random histories."""

import pytest
from tests.chat.model.histories import first_failure
from tests.chat.model.rules import Rules
from tests.soak.conftest import Figure

BATCH = 1000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("batch", range(10))
def test_no_history_loses_doubles_or_tears_anything(batch: int, seed: int, figure: Figure) -> None:
    """What tests/chat/model tries with a few hundred."""
    first = (seed + batch) * BATCH
    failure = first_failure(range(first, first + BATCH), Rules())
    figure(f"{BATCH} histories, {0 if failure is None else 'at least 1'} violations")
    assert failure is None, str(failure)
