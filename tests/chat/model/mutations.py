"""Every rule left out in turn: small patches of the code, or of what the model follows in its place."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from tests.chat.model.rules import Rules

from parley.chat import hub, reading, repository, rows, tape, watch
from parley.chat.changes import Change
from parley.chat.cursor import Position
from parley.chat.feed import Fate, Feed
from parley.chat.hub import Frame, Hub, Missing
from parley.chat.tape import Part, Tape
from parley.chat.wire import TapeEntry
from parley.core.fanout.log import End

Patch = tuple[Any, str, Any]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One rule left out."""

    name: str
    patches: Sequence[Patch] = ()
    rules: Mapping[str, bool] = field(default_factory=dict)
    seeds: Sequence[int] = range(400)
    """In one of these histories it is noticed; named where it takes thousands to meet one."""

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    @contextmanager
    def applied(self) -> Iterator[Rules]:
        """Leave the rule out for a while."""
        with ExitStack() as stack:
            for owner, name, replacement in self.patches:
                stack.enter_context(patch.object(owner, name, replacement))
            yield Rules(**self.rules)


_merge, _follow_tape, _follow_change = Tape.merge, hub.follow_tape, hub.follow_change
_follow, _take_entry, _learn, _frames = Hub.follow, Hub.take_entry, Feed.learn, reading.Standing.frames
_claim = repository.claim


def _merge_over_gaps(self: Tape, start: int, parts: Sequence[Part]) -> bool:
    return _merge(self, min(start, self.end), parts)


def _merge_what_is_known(self: Tape, start: int, parts: Sequence[Part]) -> bool:
    for part in parts:
        self.write(part)
    return True


def _take_any_attempt(self: Hub, entry: TapeEntry) -> Missing:
    held, _ = self.tape_end(entry.message_id)
    return _take_entry(self, TapeEntry(entry.message_id, held or entry.attempt, entry.start, entry.end, entry.parts))


def _take_any_attempt_of_the_log(self: Hub, message_id: Any, entries: Iterable[TapeEntry]) -> None:
    for entry in entries:
        held = self.find_tape(message_id)
        if held is None:
            held = Tape(message_id, entry.attempt)
            self._keep(held)
        held.merge(entry.start, entry.parts)


def _take_over_gaps(self: Hub, changes: Iterable[Change]) -> Missing:
    for change in changes:
        if change.rev > self.rev:
            self._take(change)
    return Missing.NOTHING


def _take_late_tape(self: Hub, entry: TapeEntry) -> Missing:
    """Take a tape of a reply whose row has not come."""
    self.live = entry.message_id
    return _take_entry(self, entry)


def _follow_below_the_floor(self: Hub, position: Position) -> list[Frame] | None:
    floor, self.floor = self.floor, 0
    try:
        return _follow(self, position)
    finally:
        self.floor = floor


def _without_restart(position: Position, written: Tape) -> list[Frame]:
    return [frame for frame in _follow_tape(position, written) if not frame.body.startswith(b'{"type":"restart"')]


def _goes_on_from_n(position: Position, written: Tape) -> list[Frame]:
    if 0 < position.attempt < written.attempt:
        position = position._replace(attempt=written.attempt)
    return _follow_tape(position, written)


def _end_without_the_rest(position: Position, change: Change, find_tape: Any) -> list[Frame]:
    frames = _follow_change(position, change, find_tape)
    return frames if change.ending is None else frames[-1:]


def _cursor_too_early(position: Position, change: Change, find_tape: Any) -> list[Frame]:
    frames = _follow_change(position, change, find_tape)
    return [frame._replace(position=frames[-1].position) for frame in frames]


def _end_by_row_alone(position: Position, change: Change, find_tape: Any) -> list[Frame]:
    frames = _follow_change(position, change, find_tape)
    is_told_by_row = change.ending is not None and frames[0].body.startswith(b'{"type":"message"')
    return [frames[0]._replace(position=frames[-1].position)] if is_told_by_row else frames


def _reset_without_live(self: reading.Standing, position: Position | None, find: Any) -> tuple[list[Frame], Position]:
    frames, after = _frames(self, position, find)
    if self.changes is None:
        after = Position(after.rev)
        frames = [frame._replace(position=after) for frame in frames]
    return frames, after


def _flush_goes_unseen(self: Feed, answers: Iterable[End | None]) -> Fate:
    return _learn(self, [None if answer == End(0, 0) else answer for answer in answers])


def _smaller_end_goes_unseen(self: Feed, answers: Iterable[End | None]) -> Fate:
    kept = [answer for answer in answers if answer is None or answer.attempt != self.tape.attempt]
    best = [answer for answer in answers if answer is not None and answer.n >= self.confirmed]
    return _learn(self, [*kept, *best])


def _claim_the_same_attempt(conversation: Any, reply: Any, owner: Any) -> bool:
    is_seen = _claim(conversation, reply, owner)
    reply.attempt = max(reply.attempt - 1, 1)
    return is_seen


def _end_at_the_row_alone(changes: Iterable[Change], conversation: Any, after_rev: int) -> list[Change]:
    found = list(changes)
    if conversation.meta_rev > after_rev:
        found.append(rows.conversation_change(conversation))
    return sorted(found, key=lambda change: change.rev)


def _without_conversation(changes: Iterable[Change], conversation: Any, after_rev: int) -> list[Change]:
    return sorted(changes, key=lambda change: change.rev)


def _bytes_of(part: Part) -> int:
    return len(part.encode()) if isinstance(part, str) else 1


def _keep_the_newest(self: Hub, written: Tape) -> None:
    self._tapes.pop(written.message_id, None)
    self._tapes[written.message_id] = written
    while len(self._tapes) > hub.OLD_TAPES:
        del self._tapes[next(iter(self._tapes))]


def _nothing(*_: Any) -> None:
    return None


def _always(*_: Any) -> bool:
    return True


def _both(replacement: Callable[..., Any]) -> list[Patch]:
    """What a hub and a reading share."""
    return [(hub, "follow_change", replacement), (reading, "follow_change", replacement)]


MUTATIONS = [
    # Tapes and their copies.
    Mutation("a tape takes what lies behind a gap", [(Tape, "merge", _merge_over_gaps)]),
    Mutation("a tape takes twice what it has", [(Tape, "merge", _merge_what_is_known)]),
    Mutation("a hub does not compare attempts", [(Hub, "take_entry", _take_any_attempt)]),
    Mutation("a log is read without comparing attempts", [(Hub, "take_log", _take_any_attempt_of_the_log)]),
    Mutation("a tape is taken before its row", [(Hub, "take_entry", _take_late_tape)]),
    Mutation("positions count bytes", [(tape, "length_of", _bytes_of)]),
    Mutation("the live tape makes room for old ones", [(Hub, "_keep", _keep_the_newest)]),
    # What follows a position.
    Mutation("a restart is not told", [(hub, "follow_tape", _without_restart)]),
    Mutation("a later attempt goes on at n", [(hub, "follow_tape", _goes_on_from_n)]),
    Mutation("an end does not wait for its tape", [(hub, "_is_whole", _always)]),
    Mutation("an end waits for its tape for ever", [(Hub, "give_up", _nothing)]),
    Mutation("an end leaves out the rest of its tape", _both(_end_without_the_rest)),
    Mutation("a final row is told without complete", _both(_end_by_row_alone)),
    Mutation("a cursor is ahead of what was given", _both(_cursor_too_early)),
    Mutation("a reset does not name the live reply", [(reading.Standing, "frames", _reset_without_live)]),
    # Rows.
    Mutation("rows are taken over a gap", [(Hub, "take_changes", _take_over_gaps)]),
    Mutation("a viewer behind the ring follows it", [(Hub, "follow", _follow_below_the_floor)]),
    Mutation("an end is told only where its row changed last", [(rows, "in_order", _end_at_the_row_alone)]),
    Mutation("the conversation's own change is not read", [(rows, "in_order", _without_conversation)]),
    Mutation("statements of one reading see different moments", rules={"reads_one_snapshot": False}),
    Mutation("what is far behind is taken for nothing new", rules={"resets_what_is_far_behind": False}),
    Mutation("nothing sweeps", rules={"sweeps": False}),
    Mutation("a cursor of another timeline is believed", rules={"compares_timelines": False}),
    # To Redis and in it.
    Mutation("an emptied log is not filled again", [(Feed, "learn", _flush_goes_unseen)]),
    Mutation("a lost tail is not sent again", [(Feed, "learn", _smaller_end_goes_unseen)]),
    Mutation("an append does not ask where the log ends", rules={"append_asks_where_the_log_ends": False}),
    # Owners, ends, questions.
    Mutation("a takeover keeps the attempt", [(repository, "claim", _claim_the_same_attempt)]),
    Mutation("whoever was taken over may end", rules={"ends_only_its_own_attempt": False}),
    Mutation("an end that happened is made again", rules={"ends_once": False}),
    Mutation("a lost reply keeps its attempt", rules={"lost_replies_take_an_attempt": False}),
    Mutation("writing goes on behind the end", rules={"stops_writing_at_the_end": False}),
    Mutation("a reply begins beside another", rules={"promotes_only_when_free": False}),
    Mutation("rows without a task stay as they are", rules={"claims_after_lost_commits": False}),
    Mutation(
        "a missed poll does not break the watch",
        [(watch.Watch, "missed", _nothing), (watch, "APART_S", 1e9), (watch, "ANSWER_S", 1e9)],
    ),
    Mutation("a takeover is not thought over", rules={"looks_at_the_dead_again": False}, seeds=[13062902159]),
    Mutation(
        "an old tape ends whoever writes its reply now",
        rules={"fences_only_the_tape_s_own_writer": False},
        seeds=[11307736601],
    ),
    Mutation("a question is acknowledged before its commit", rules={"acknowledges_after_the_commit": False}),
    Mutation("a client_id is not looked up", rules={"knows_client_ids": False}),
]
