"""When what we hear of ourselves is late, when it is lost, and when it is we who slept."""

from parley.core.fanout.heartbeat import CHECK_S, Heartbeat


def checked(heartbeat: Heartbeat, start: float, end: float, *, is_echoed: bool) -> list[tuple[float, str]]:
    """Let the time go by in steps of a check; return when what was noticed."""
    noticed, now = [], start
    while now <= end:
        if (beat := heartbeat.beat(now)) and is_echoed:
            heartbeat.heard(beat, now)
        becomes_late, is_lost = heartbeat.check(now)
        noticed += [(now, "late")] * becomes_late + [(now, "lost")] * is_lost
        now += CHECK_S
    return noticed


def test_a_connection_that_echoes_is_never_late() -> None:
    heartbeat = Heartbeat(0.0)

    assert checked(heartbeat, 0.0, 60.0, is_echoed=True) == []
    assert heartbeat.heard_at >= 59.0


def test_silence_is_a_gap_once_and_then_lost() -> None:
    heartbeat = Heartbeat(0.0)
    checked(heartbeat, 0.0, 10.0, is_echoed=True)

    assert checked(heartbeat, 10.5, 14.5, is_echoed=False) == [(13.0, "late"), (14.5, "lost")]


def test_an_echo_that_comes_late_ends_the_gap_and_the_next_silence_is_another() -> None:
    heartbeat = Heartbeat(0.0)
    assert checked(heartbeat, 0.0, 2.0, is_echoed=False) == [(2.0, "late")]

    heartbeat.heard(b"3", 2.2)

    assert checked(heartbeat, 2.5, 5.0, is_echoed=False) == [(5.0, "late")]


def test_whoever_slept_itself_does_not_blame_the_connection() -> None:
    heartbeat = Heartbeat(0.0)
    heartbeat.beat(0.0)
    heartbeat.check(0.0)

    assert heartbeat.check(30.0) == (False, False)
    heartbeat.heard(b"1", 30.1)
    assert heartbeat.check(30.5) == (False, False)
