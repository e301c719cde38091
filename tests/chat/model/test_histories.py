"""The streaming contract in random histories: rows, tapes, viewers, and everything that may break between them."""

import pytest
from tests.chat.model.histories import first_failure, run
from tests.chat.model.rules import Rules

BATCH = 40


@pytest.mark.parametrize("batch", range(10))
def test_no_history_loses_doubles_or_tears_anything(batch: int) -> None:
    """Rows never go backwards, each text is told once and exactly, and in the end every screen shows what is true."""
    failure = first_failure(range(batch * BATCH, (batch + 1) * BATCH), Rules())
    assert failure is None, str(failure)


def test_a_history_is_the_same_each_time() -> None:
    """A seed is all that is needed to see a fault again."""
    traces = [run(11, Rules(), traces=True)[0].trace for _ in range(2)]
    assert traces[0]
    assert traces[0] == traces[1]


def test_a_failure_is_shown_as_short_as_it_can_be() -> None:
    """Of a history that fails only the steps up to the fault are shown, with what was told."""
    failure = first_failure(range(50), Rules(reads_one_snapshot=False))
    assert failure is not None
    assert f"seed {failure.seed}, the first {failure.steps} steps: " in str(failure)
    assert run(failure.seed, Rules(reads_one_snapshot=False), steps=failure.steps)[1] == failure.sentence
    if failure.steps:
        assert run(failure.seed, Rules(reads_one_snapshot=False), steps=failure.steps - 1)[1] == ""
