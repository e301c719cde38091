"""When a worker has done enough."""

import pytest

from parley.core.settings import ServerSettings
from parley.core.wear import MIB, Wear


def wear(chance: float = 0.0, **bounds: int) -> Wear:
    return Wear(ServerSettings.model_validate(bounds), chance)


def test_without_bounds_it_never_has() -> None:
    assert not wear().is_bounded
    assert wear().reason(10**9, lambda: 10**12) is None


@pytest.mark.parametrize(("chance", "most"), [(0.0, 1000), (0.5, 1100), (0.999, 1200)])
def test_so_many_requests_are_enough_and_not_the_same_number_for_all(chance: float, most: int) -> None:
    of_one = wear(chance, max_requests=1000)
    assert of_one.reason(most - 1, lambda: 0) is None
    assert of_one.reason(most, lambda: 0) == "requests"


def test_memory_that_grew_is_enough() -> None:
    of_one = wear(max_rss_mb=300)
    assert of_one.reason(1, lambda: 200 * MIB) is None
    assert of_one.reason(1, lambda: 301 * MIB) == "memory"


def test_memory_it_always_had_is_no_reason() -> None:
    """A successor would need it as well, and workers would be replaced for ever."""
    of_one = wear(max_rss_mb=300)
    assert [of_one.reason(1, lambda: 400 * MIB) for _ in range(3)] == [None] * 3
