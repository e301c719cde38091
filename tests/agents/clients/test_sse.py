"""Cutting a stream into events."""

from parley.agents.clients.sse import EventCutter


def test_lines_end_in_each_of_the_three_ways() -> None:
    cutter = EventCutter(100)
    assert cutter.feed(b"data: a\n\ndata: b\r\n\r\ndata: c\r\r") == [b" a", b" b"]
    assert cutter.feed(b"data: d\n\n") == [b" c", b" d"]


def test_an_event_of_many_lines_is_one() -> None:
    assert EventCutter(100).feed(b"data: a\nevent: x\ndata: b\n\n") == [b" a\n b"]


def test_an_event_that_was_not_ended_does_not_count() -> None:
    assert EventCutter(100).feed(b"data: a\n") == []


def test_comments_are_passed_over_and_held_nowhere() -> None:
    cutter = EventCutter(100)
    for _ in range(1000):
        assert cutter.feed(b": ping\n") == []
    assert not cutter.is_too_long
    assert cutter.feed(b"data: a\n\n") == [b" a"]


def test_a_long_line_ends_it_and_what_came_before_stays_good() -> None:
    cutter = EventCutter(20)
    assert cutter.feed(b"data: a\n\n" + b"x" * 21) == [b" a"]
    assert cutter.is_too_long
    assert cutter.feed(b"\ndata: b\n\n") == []


def test_a_long_event_of_short_lines_ends_it_too() -> None:
    cutter = EventCutter(20)
    assert cutter.feed(b"data: 12345678\ndata: 12345678\ndata: 12345678\n\n") == []
    assert cutter.is_too_long
