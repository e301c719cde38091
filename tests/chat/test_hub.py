"""A worker's copy of a conversation: what it lacks, and what follows any position."""

from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple
from unittest.mock import patch
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.chat.model.rules import Rules
from tests.chat.model.store import End, Row, Store

from parley.chat import hub as hubs
from parley.chat import protocol
from parley.chat.changes import Change
from parley.chat.cursor import Position
from parley.chat.hub import Frame, Hub, Missing
from parley.chat.rows import change_of
from parley.chat.service import Committed
from parley.chat.tape import Part, Tape, digest
from parley.chat.wire import TapeEntry
from parley.client.state import State, fold

CONVERSATION, REPLY, OTHER, WORKER = (UUID(int=n) for n in range(1, 5))


def reply_row(status: str = "streaming", rev: int = 2, **values: Any) -> Any:
    return Row(REPLY, CONVERSATION, 2, rev, "assistant", status=status, **{"attempt": 1, **values})


def question_row(rev: int, message_id: UUID = OTHER) -> Any:
    return Row(message_id, CONVERSATION, rev, rev, "user", content="Hi")


def ended(text: str, rev: int = 3, attempt: int = 1, **values: Any) -> Change:
    shown = {"content": text, "tape_end": len(text), "content_length": 0, "content_sha256": b"", "ended_rev": rev}
    return change_of(reply_row("complete", rev, attempt=attempt, **{**shown, **values}))


def entry(start: int, *parts: str | bytes, attempt: int = 1, message_id: UUID = REPLY) -> TapeEntry:
    end = start + sum(len(part) if isinstance(part, str) else 1 for part in parts)
    return TapeEntry(message_id, attempt, start, end, parts)


def live_hub(*entries: TapeEntry) -> Hub:
    hub = Hub(CONVERSATION)
    assert hub.take_changes([change_of(question_row(1)), change_of(reply_row())]) is Missing.NOTHING
    for one in entries:
        assert hub.take_entry(one) is Missing.NOTHING
    return hub


def kinds(frames: Sequence[Frame] | None) -> list[str]:
    assert frames is not None
    return [orjson.loads(frame.body)["type"] for frame in frames]


AT_REPLY = Position(2, REPLY, 1, 2)


def test_a_missing_row_is_asked_for_and_nothing_behind_it_is_taken() -> None:
    hub = Hub(CONVERSATION)
    assert hub.take_changes([change_of(question_row(1)), change_of(reply_row(rev=3))]) is Missing.ROWS
    assert (hub.rev, hub.live) == (1, None)
    assert hub.take_changes([change_of(question_row(1))]) is Missing.NOTHING
    hub.take_read([change_of(reply_row(rev=3))], 4)
    assert (hub.rev, hub.live) == (4, REPLY)


def test_a_tape_without_its_row_asks_for_rows() -> None:
    assert Hub(CONVERSATION).take_entry(entry(0, "Hi")) is Missing.ROWS
    assert live_hub().take_entry(entry(0, "Hi", message_id=OTHER)) is Missing.ROWS


def test_a_text_that_is_not_what_its_end_says_is_noticed_once() -> None:
    """Once its tape is here to its end, and only then; an end without text, and a later change, say nothing."""
    length, sha256 = digest("Hello")
    right: dict[str, Any] = {"content_length": length, "content_sha256": bytes.fromhex(sha256)}
    for said, torn in (("Hello", []), ("Hallo", [REPLY])):
        hub = live_hub(entry(0, said[:3]))
        assert hub.take_changes([ended("Hello", **right)]) is Missing.NOTHING
        assert (hub.unsettled(), hub.torn) == ([REPLY], [])
        hub.take_log(REPLY, [entry(3, said[3:])])
        assert hub.unsettled() == hub.unsettled() == []
        assert hub.torn == torn
    hub = live_hub(entry(0, "Hi"))
    hub.take_changes([ended("", **right)])
    assert (hub.unsettled(), hub.torn) == ([], [])


def test_a_gap_in_a_tape_asks_for_the_log_which_closes_it() -> None:
    hub = live_hub(entry(0, "He"))
    assert hub.take_entry(entry(3, "lo")) is Missing.TAPE
    hub.take_log(REPLY, [entry(1, "el"), entry(3, "lo")])
    assert hub.tape_end(REPLY) == (1, 5)
    assert live_hub().take_entry(entry(1, "x")) is Missing.TAPE


def test_a_smaller_attempt_is_dropped_and_a_greater_one_begins_anew() -> None:
    hub = live_hub(entry(0, "old"), entry(0, "new", attempt=2))
    assert hub.take_entry(entry(3, "er")) is Missing.NOTHING
    assert hub.take_entry(entry(2, "w!", attempt=3)) is Missing.TAPE
    hub.take_log(REPLY, [entry(0, "old")])
    assert hub.tape_end(REPLY) == (2, 3)


def test_a_viewer_of_an_earlier_attempt_is_told_to_forget_it() -> None:
    hub = live_hub(entry(0, "old"), entry(0, "new", attempt=2))
    frames = hub.follow(AT_REPLY)
    assert kinds(frames) == ["restart", "token"]
    assert frames is not None
    assert [frame.position[2:] for frame in frames] == [(2, 0), (2, 3)]
    assert kinds(hub.follow(Position(2, REPLY))) == ["token"]
    assert hub.follow(Position(2, REPLY, 3, 1)) == []


def test_a_position_ahead_of_the_copy_waits() -> None:
    hub = live_hub(entry(0, "He"))
    assert hub.follow(Position(2, REPLY, 1, 4)) == []
    hub.take_entry(entry(2, "llo"))
    frames = hub.follow(Position(2, REPLY, 1, 4))
    assert frames is not None
    assert orjson.loads(frames[0].body)["content"] == "o"


def test_whoever_has_the_tape_is_told_the_end_alone() -> None:
    hub = live_hub(entry(0, "Hello"))
    hub.take_changes([ended("Hello")])
    assert hub.unsettled() == []
    assert kinds(hub.follow(AT_REPLY)) == ["token", "complete"]
    frames = hub.follow(Position(2, REPLY, 1, 5))
    assert frames == [frames[0]] if frames else False
    assert frames is not None
    assert (frames[0].position, frames[0].ends) == (Position(3), REPLY)


def test_whoever_does_not_know_the_reply_is_told_row_and_end() -> None:
    """Also a viewer that came while another reply was written, and holds none."""
    hub = live_hub(entry(0, "Hello"))
    assert hub.follow(Position(2)) == []
    hub.take_changes([ended("Hello")])
    frames = hub.follow(Position(2))
    assert kinds(frames) == ["message", "complete"]
    assert frames is not None
    assert [frame.position.rev for frame in frames] == [2, 3]


def test_an_end_waits_for_its_tape_until_that_is_given_up() -> None:
    hub = live_hub(entry(0, "He"))
    hub.take_changes([ended("Hello"), change_of(question_row(4, UUID(int=9)))])
    assert hub.unsettled() == [REPLY]
    assert hub.follow(Position(2, REPLY, 1, 2)) == []
    hub.give_up(REPLY)
    assert hub.unsettled() == []
    assert kinds(hub.follow(AT_REPLY)) == ["message", "complete", "message"]


def test_the_log_settles_an_end() -> None:
    hub = live_hub(entry(0, "He"))
    hub.take_changes([ended("Hello")])
    hub.take_log(REPLY, [entry(2, "llo")])
    assert kinds(hub.follow(AT_REPLY)) == ["token", "complete"]


def test_an_end_of_another_attempt_replaces_the_text() -> None:
    """As a claimer ends it that was to stop it, or to give it up: its attempt has no tape."""
    hub = live_hub(entry(0, "Hello"))
    hub.take_changes([ended("He", attempt=2, tape_end=0)])
    assert kinds(hub.follow(AT_REPLY)) == ["message", "complete"]


def test_a_cut_between_row_and_end_tells_the_end_again() -> None:
    hub = live_hub()
    hub.take_changes([ended("Hello", tape_end=0, attempt=2)])
    frames = hub.follow(AT_REPLY)
    assert frames is not None
    assert kinds(hub.follow(frames[0].position)) == ["message", "complete"]
    assert hub.follow(frames[1].position) == []


def test_a_queued_reply_that_is_stopped_ends_once() -> None:
    hub = live_hub()
    hub.take_changes([change_of(Row(OTHER, CONVERSATION, 3, 3, "assistant", status="queued"))])  # type: ignore[arg-type]
    stopped = {"status": "stopped", "ended_rev": 4, "content_length": 0, "content_sha256": b"", "tape_end": 0}
    hub.take_changes([change_of(Row(OTHER, CONVERSATION, 3, 4, "assistant", **stopped))])  # type: ignore[arg-type]
    frames = hub.follow(AT_REPLY)
    assert kinds(frames) == ["message", "message", "complete"]
    assert frames is not None
    assert frames[-1].position == AT_REPLY._replace(rev=4)


def test_whoever_stands_behind_the_ring_must_read() -> None:
    with patch.object(hubs, "RING", 2):
        hub = Hub(CONVERSATION)
        hub.take_changes([change_of(question_row(rev, UUID(int=rev))) for rev in range(1, 6)])
        assert hub.follow(Position(2)) is None
        assert kinds(hub.follow(Position(3))) == ["message", "message"]
    hub.begin(9, None)
    assert hub.follow(Position(8)) is None
    assert hub.follow(Position(9)) == []


@pytest.mark.parametrize("kept", [1, 4])
def test_the_live_tape_stays_however_many_old_ones_are_read(kept: int) -> None:
    with patch.object(hubs, "OLD_TAPES", kept):
        hub = live_hub(entry(0, "Hello"))
        for n in range(10, 20):
            hub.take_log(UUID(int=n), [entry(0, "old", message_id=UUID(int=n))])
        assert hub.tape_end(REPLY) == (1, 5)
        assert [hub.find_tape(UUID(int=n)) is not None for n in range(10, 20)] == [False] * (10 - kept) + [True] * kept


def test_a_tape_that_is_written_here_is_shared() -> None:
    hub, tape = live_hub(), Tape(REPLY, 1)
    hub.attach(tape)
    tape.write("Hello")
    assert kinds(hub.follow(Position(2, REPLY))) == ["token"]
    hub.take_entry(entry(0, "new", attempt=2))
    hub.attach(tape)
    assert hub.tape_end(REPLY) == (2, 3)


class Step(NamedTuple):
    """What a hub is told: changes or a stretch of a tape."""

    changes: Sequence[Change] = ()
    entry: TapeEntry | None = None


def story(seed: int, length: int) -> list[Step]:
    """What happened in a conversation, with takeovers, ends, promotions and ratings, as its hub is told in order."""
    random = Random(seed)
    store = Store(CONVERSATION, Rules(), lambda: UUID(int=random.getrandbits(128)), 200)
    told, tape = [], Tape(REPLY, 0)
    for n in range(length):
        live, committed = store.live, Committed(CONVERSATION)
        if live is not None and (tape.message_id, tape.attempt) != (live.id, live.attempt):
            tape = Tape(live.id, live.attempt)
        kind = random.choice(["ask", "write", "write", "write", "end", "again", "rate", "title"])
        if kind == "ask":
            committed = store.ask(WORKER, UUID(int=100 + n), f"c-{n}", "queue", can_start=True).committed
        elif kind == "write" and live is not None:
            start = tape.end
            parts: list[Part] = [protocol.sources(live.id, []), random.choice(["a", "é😀", "longer text"])]
            for part in parts[random.randint(0, 1) :]:
                tape.write(part)
            told.append(Step(entry=TapeEntry(live.id, live.attempt, start, tape.end, tape.entry(start)[1])))
        elif kind == "end" and live is not None:
            end = End("complete", tape.text(), tape.end)
            committed = store.end(WORKER, live.id, live.attempt, end, has_room=True) or committed
        elif kind == "again" and live is not None:
            store.raise_attempt(WORKER, live.id, live.attempt)
        elif kind == "rate" and store.rows:
            committed = store.rate(random.choice(list(store.rows)), random.choice(["up", "down"]))
        elif kind == "title":
            committed = store.retitle(f"title {n}")
        told.append(Step(committed.changes))
    return told


def tell(hub: Hub, step: Step) -> None:
    assert hub.take_changes(step.changes) is Missing.NOTHING
    if step.entry is not None:
        assert hub.take_entry(step.entry) is Missing.NOTHING


class Screen:
    """A viewer that is told by `follow` alone."""

    def __init__(self) -> None:
        self.state, self.position = State(), Position()

    def follow(self, hub: Hub) -> None:
        for frame in hub.follow(self.position) or ():
            self.state, self.position = fold(self.state, orjson.loads(frame.body)), frame.position

    def shown(self) -> Any:
        """All a person could see; the rev of a row that an end alone told of is older."""
        shown = [(one.id, one.status, one.content, one.steps, one.sources) for one in self.state.shown()]
        return shown, self.position, self.state.conversation


@given(st.integers(0, 2**32), st.integers(0, 60))
def test_fold_at_any_cut_and_doubled_is_the_whole(seed: int, length: int) -> None:
    """fold(snapshot, rest) == fold(all), for a viewer at every cut, and a hub that is told everything twice."""
    steps = story(seed, length)
    with patch.object(hubs, "RING", 1000), patch.object(hubs, "OLD_TAPES", 1000):
        hub, doubled = Hub(CONVERSATION), Hub(CONVERSATION)
        each, twice, late = Screen(), Screen(), [Screen() for _ in range(0, len(steps), 5)]
        for n, step in enumerate(steps):
            tell(hub, step)
            tell(doubled, step)
            tell(doubled, step)
            each.follow(hub)
            twice.follow(doubled)
            if n % 5 == 0:
                late[n // 5].follow(hub)
        whole = Screen()
        whole.follow(hub)
        for screen in (each, twice, *late):
            screen.follow(hub)
            assert screen.shown() == whole.shown()
