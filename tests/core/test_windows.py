"""Moving windows: so many within the time, at any moment, and nothing is remembered for longer."""

from hypothesis import given
from hypothesis import strategies as some

from parley.core.windows import Windows


def test_so_many_within_the_time_and_the_next_when_the_first_is_over() -> None:
    windows = Windows()

    assert [windows.hit("ada", 2, 60, now)[0] for now in (0.0, 10.0, 20.0, 59.9)] == [True, True, False, False]
    assert windows.hit("ada", 2, 60, 30.0) == (False, 60.0)
    assert windows.hit("ada", 2, 60, 60.0)[0]


def test_a_visit_that_is_taken_back_was_none() -> None:
    windows = Windows()
    windows.take_back("ada", 60)
    windows.hit("ada", 2, 60, 0.0)
    windows.hit("ada", 2, 60, 10.0)
    windows.take_back("ada", 60)

    assert windows.hit("ada", 2, 60, 20.0)[0]
    assert windows.hit("ada", 2, 60, 21.0) == (False, 60.0)


def test_buckets_and_lengths_do_not_share() -> None:
    windows = Windows()

    assert windows.hit("ada", 1, 60, 0.0)[0]
    assert windows.hit("bob", 1, 60, 0.0)[0]
    assert windows.hit("ada", 1, 1, 0.0)[0]
    assert not windows.hit("ada", 1, 60, 1.0)[0]


def test_whoever_does_not_come_again_is_forgotten() -> None:
    windows = Windows()
    for number in range(1000):
        windows.hit(f"address {number}", 5, 60, float(number))

    assert len(windows) <= 62


@given(some.lists(some.floats(0, 5), max_size=60), some.integers(1, 5))
def test_no_window_ever_holds_more_than_the_limit(pauses: list[float], most: int) -> None:
    windows, now, allowed = Windows(), 0.0, []
    for pause in pauses:
        now += pause
        if windows.hit("ada", most, 10, now)[0]:
            allowed.append(now)

    for moment in allowed:
        assert sum(moment <= other < moment + 10 for other in allowed) <= most
