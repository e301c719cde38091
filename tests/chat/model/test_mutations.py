"""Each rule of the contract left out in turn: the histories find it, which shows that they can fail."""

import pytest
from tests.chat.model.histories import run
from tests.chat.model.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_rule_left_out_is_found(mutation: Mutation) -> None:
    """A few hundred histories are enough to break a promise where one rule is missing, or one that is known."""
    with mutation.applied() as rules:
        found = next((seed for seed in mutation.seeds if run(seed, rules)[1]), None)
    assert found is not None, f"nobody notices that {mutation.name}"
