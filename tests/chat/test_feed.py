"""One tape on its way: what is sent, and what each answer means."""

from random import Random
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.chat.feed import IDLE_S, Fate, Feed
from parley.chat.tape import ENTRY_POSITIONS, Tape
from parley.chat.wire import TapeEntry, decode
from parley.core.fanout.log import End, Write

BOOT = uuid4()
NO_BOUND = 10**9


def feed_of(text: str = "", attempt: int = 2) -> Feed:
    tape = Tape(uuid4(), attempt)
    tape.write(text)
    return Feed(tape, uuid4())


def sent(feed: Feed, now: float = 0.0, most_bytes: int = NO_BOUND) -> list[tuple[int, int]]:
    return [(write.start, write.end) for write in feed.writes(BOOT, now, most_bytes)]


def test_all_that_is_not_confirmed_goes_as_one_entry() -> None:
    feed = feed_of("hello")
    feed.tape.write(" world")

    (write,) = feed.writes(BOOT, 0.0, NO_BOUND)

    entry = decode(write.entry)
    assert isinstance(entry, TapeEntry)
    assert (entry.start, entry.end, list(entry.parts)) == (0, 11, ["hello", " world"])


def test_a_long_stretch_goes_as_several_entries_in_order_and_within_the_bound() -> None:
    feed = feed_of("x" * (ENTRY_POSITIONS * 2 + 7))
    ends = [ENTRY_POSITIONS, ENTRY_POSITIONS * 2, ENTRY_POSITIONS * 2 + 7]

    assert sent(feed) == list(zip([0, *ends], ends, strict=False))
    assert sent(feed, most_bytes=ENTRY_POSITIONS) == [(0, ENTRY_POSITIONS)]


def test_without_news_the_log_is_asked_for_its_end_once_a_second() -> None:
    feed = feed_of("hello")
    sent(feed, 10.0)
    feed.learn([End(2, 5)])

    assert sent(feed, 10.0 + IDLE_S - 0.01) == []
    assert sent(feed, 10.0 + IDLE_S) == [(5, 5)]
    assert sent(feed, 10.0 + IDLE_S) == []


@pytest.mark.parametrize(
    ("answers", "confirmed"),
    [
        ([End(2, 5)], 5),
        ([End(2, 3)], 3),
        ([End(1, 9)], 0),
        ([End(0, 0)], 0),
        ([None], 2),
        ([End(2, 3), None], 3),
        ([End(2, 5), End(0, 0)], 0),
        ([None, End(2, 4), None], 4),
    ],
)
def test_the_last_answer_is_believed_and_an_error_confirms_nothing(answers: list[End | None], confirmed: int) -> None:
    feed = feed_of("hello")
    feed.learn([End(2, 2)])

    assert feed.learn(answers) is Fate.GOES_ON
    assert feed.confirmed == confirmed


def test_a_later_attempt_fences() -> None:
    assert feed_of("hello").learn([End(2, 5), End(3, 1)]) is Fate.FENCED


def test_a_tape_is_done_when_it_gives_up_only_with_its_end_confirmed() -> None:
    feed = feed_of("hello")
    assert feed.learn([End(2, 5)]) is Fate.GOES_ON
    feed.gives_up_at = 100.0

    assert feed.learn([End(2, 3)]) is Fate.GOES_ON
    assert feed.learn([None]) is Fate.GOES_ON
    assert feed.learn([End(2, 5)]) is Fate.DONE


class ModelLog:
    """What the append script decides, without Redis."""

    def __init__(self) -> None:
        self.end = End(0, 0)
        self.text = ""

    def append(self, write: Write) -> End:
        continues = self.end == (write.attempt, write.start) and write.start > 0
        begins = write.start == 0 and self.end.attempt < write.attempt
        if write.entry and (continues or begins):
            entry = decode(write.entry)
            assert isinstance(entry, TapeEntry)
            self.text = ("" if begins else self.text) + "".join(str(part) for part in entry.parts)
            self.end = End(write.attempt, write.end)
        return self.end


@given(st.randoms(use_true_random=False), st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=30))
def test_whatever_is_lost_the_log_ends_as_the_tape(random: Random, texts: list[str]) -> None:
    feed, log, now = feed_of(), ModelLog(), 0.0
    for text in texts:
        feed.tape.write(text)
        if random.random() < 0.1:
            log = ModelLog()
        answers = [None if random.random() < 0.2 else log.append(write) for write in feed.writes(BOOT, now, NO_BOUND)]
        feed.learn([None if random.random() < 0.2 else answer for answer in answers])
        now += random.random()
    for _ in range(4):
        now += IDLE_S
        feed.learn([log.append(write) for write in feed.writes(BOOT, now, NO_BOUND)])

    assert log.text == feed.tape.text()
    assert log.end == (feed.tape.attempt, feed.tape.end)
