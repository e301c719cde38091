"""The watch over the others' counters: who is dead, and who only seems so."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from parley.chat.watch import ANSWER_S, APART_S, STILL_S, Watch

A, B = UUID(int=1), UUID(int=2)


def poll(watch: Watch, at: float, *, took_s: float = 0.01, **counters: int | None) -> set[UUID]:
    names = {"a": A, "b": B}
    return set(watch.poll({names[name]: counter for name, counter in counters.items()}, at, at + took_s))


def test_a_counter_that_stands_still_is_dead_after_five_beats() -> None:
    watch = Watch()
    dead = [poll(watch, n / 2, a=7, b=n) for n in range(8)]
    assert dead == [set()] * 6 + [{A}, {A}]


def test_a_worker_without_a_counter_is_watched_like_any() -> None:
    watch = Watch()
    assert [poll(watch, n / 2, a=None) for n in range(7)][-1] == {A}


def test_a_counter_that_moves_once_starts_anew() -> None:
    watch = Watch()
    for n in range(5):
        assert poll(watch, n / 2, a=1) == set()
    assert [poll(watch, n / 2, a=2) for n in range(5, 12)] == [set()] * 6 + [{A}]


def test_a_missed_poll_starts_the_watch_anew() -> None:
    watch = Watch()
    for n in range(5):
        poll(watch, n / 2, a=1)
    watch.missed()
    assert [poll(watch, n / 2, a=1) for n in range(5, 12)] == [set()] * 6 + [{A}]


def test_a_pause_of_its_own_starts_the_watch_anew() -> None:
    """Who stood still itself has seen nothing meanwhile."""
    watch = Watch()
    poll(watch, 0.0, a=1)
    assert poll(watch, 0.01 + APART_S + 0.1, a=1) == set()
    assert poll(watch, 60.0, a=1) == set()


def test_a_slow_answer_says_nothing() -> None:
    watch = Watch()
    for n in range(5):
        poll(watch, n / 2, a=1)
    assert poll(watch, 2.5, took_s=ANSWER_S + 0.1, a=1) == set()
    assert poll(watch, 4.0, a=1) == set()


def test_who_went_and_came_back_is_watched_anew() -> None:
    watch = Watch()
    for n in range(4):
        poll(watch, n / 2, a=1)
    poll(watch, 2.0, b=1)
    assert poll(watch, 2.5, a=1, b=2) == set()
    assert poll(watch, 3.0, a=1, b=3) == set()


@given(
    st.lists(st.tuples(st.floats(0.05, 4.0), st.floats(0.0, 1.5), st.booleans(), st.booleans()), max_size=40),
)
def test_nobody_dies_who_moved_within_the_watch(polls: list[tuple[float, float, bool, bool]]) -> None:
    """Whatever the pace: a counter that was seen to change less than the watch's time before is alive."""
    watch, now, counter, changed_at = Watch(), 0.0, 0, 0.0
    for apart_s, took_s, moves, misses in polls:
        now += apart_s
        if misses:
            watch.missed()
            changed_at = now
            continue
        if moves:
            counter += 1
        dead = watch.poll({A: counter}, now, now + took_s)
        if moves:
            changed_at = now + took_s
        assert not dead or now - changed_at >= STILL_S
        now += took_s
