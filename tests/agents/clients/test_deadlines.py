"""Which deadline is next."""

from parley.agents.clients.deadlines import TAIL_S, Deadlines


def deadlines(total_s: float = 100.0) -> Deadlines:
    return Deadlines(first_token_s=30, silence_s=20, total_s=total_s, now=0)


def test_the_first_token_comes_first() -> None:
    limit = deadlines()
    limit.come_back(25)
    assert limit.left_s(25) == 5
    assert limit.failure().code == "model_first_token_timeout"


def test_silence_counts_from_the_last_token_and_not_while_the_reader_is_away() -> None:
    limit = deadlines()
    limit.hear(10)
    assert (limit.left_s(10), limit.failure().code) == (20, "model_silent")
    limit.come_back(40)
    assert limit.left_s(40) == 20


def test_the_whole_has_an_end_whatever_comes() -> None:
    limit = deadlines(total_s=25)
    limit.hear(24)
    assert (limit.left_s(24), limit.failure().code) == (1, "model_deadline")
    assert not limit.failure().is_retryable


def test_the_usage_is_not_waited_for_long() -> None:
    limit = deadlines()
    limit.hear(10)
    limit.finish(10)
    limit.come_back(10)
    assert limit.left_s(10) == TAIL_S
