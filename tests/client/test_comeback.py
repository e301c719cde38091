"""When to come back."""

import pytest

from parley.client.comeback import (
    CAP_S,
    LATER_S,
    LONGEST_S,
    RENEWALS,
    STEADY_S,
    Comeback,
    Interrupted,
    of_close,
    of_status,
)

LOST = of_close(1006, "")


def test_waits_grow_to_a_cap_and_are_spread() -> None:
    comeback = Comeback()
    waits = [comeback.wait_s(LOST, 0.0, 0.999) or 0.0 for _ in range(20)]
    assert waits == sorted(waits)
    assert 0.4 < waits[0] < 0.5
    assert waits[-1] == pytest.approx(CAP_S, rel=0.01)
    assert comeback.wait_s(LOST, 0.0, 0.0) == 0.0


def test_a_connection_that_held_makes_the_next_wait_short() -> None:
    comeback = Comeback()
    for _ in range(10):
        comeback.wait_s(LOST, 0.0, 0.5)
    assert (comeback.wait_s(LOST, STEADY_S, 0.5) or 0.0) < 0.5


def test_what_the_server_asked_for_is_kept_to() -> None:
    assert Comeback().wait_s(Interrupted("come_back", "draining", "", wait_s=1.5), 0.0, 0.9) == 1.5
    busy = of_status(503, {"Retry-After": "7"}, "unavailable", "")
    assert 7.0 <= (Comeback().wait_s(busy, 0.0, 0.5) or 0.0) < 8.0
    assert (Comeback().wait_s(of_status(503, {"Retry-After": "9999999"}, "x", ""), 0.0, 0.5) or 0.0) <= LONGEST_S + 1


@pytest.mark.parametrize("value", ["", "-1", "soon", "1e9", "²", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_retry_after_that_is_no_number_is_ignored(value: str) -> None:
    assert of_status(503, {"Retry-After": value}, "x", "").retry_after_s == 0.0


@pytest.mark.parametrize("code", [4400, 4403, 4404, 1000])
def test_who_is_told_to_stay_away_does(code: int) -> None:
    assert Comeback().wait_s(of_close(code, ""), 0.0, 0.5) is None


@pytest.mark.parametrize("code", [4408, 4429, 1009])
def test_later_is_not_at_once(code: int) -> None:
    assert (Comeback().wait_s(of_close(code, ""), 0.0, 0.0) or 0.0) >= LATER_S


def test_tokens_are_renewed_only_so_often_in_a_row() -> None:
    comeback = Comeback()
    stale = of_close(4401, "")
    assert all(comeback.wait_s(stale, 0.0, 0.5) is not None for _ in range(RENEWALS))
    assert comeback.wait_s(stale, 0.0, 0.5) is None


@pytest.mark.parametrize(
    ("status", "move"),
    [
        (401, "renew"),
        (403, "stay_away"),
        (404, "stay_away"),
        (422, "stay_away"),
        (429, "come_back"),
        (500, "come_back"),
        (503, "come_back"),
    ],
)
def test_a_refusal_over_http_says_what_to_do(status: int, move: str) -> None:
    assert of_status(status, {}, "x", "").move == move
