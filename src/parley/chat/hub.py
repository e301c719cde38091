"""A worker's copy of one watched conversation: its newest changes, the tape being written, what follows a position.

Pure: takes what comes and says what is missing. Reading that, and sending, is done by `connections`.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from typing import NamedTuple
from uuid import UUID

from parley.chat.changes import Change
from parley.chat.cursor import Position
from parley.chat.protocol import restart, token
from parley.chat.tape import Tape
from parley.chat.wire import TapeEntry

RING = 64  # changes kept; a viewer further behind reads them from the database
OLD_TAPES = 4  # of ended replies, for viewers that are still on their way through them

FindTape = Callable[[UUID], Tape | None]


class Missing(Enum):
    """What a hub must read before it can go on."""

    NOTHING = auto()
    ROWS = auto()
    TAPE = auto()


class Frame(NamedTuple):
    """One event on its way to a viewer, the position behind it, and the reply that it ends."""

    body: bytes
    position: Position
    ends: UUID | None = None


class Hub:
    """The hub of one conversation."""

    __slots__ = ("_changes", "_tapes", "conversation_id", "floor", "live", "rev", "torn")

    def __init__(self, conversation_id: UUID) -> None:
        self.conversation_id = conversation_id
        self.rev = 0
        """Every change up to this one has come."""
        self.floor = 0
        """The changes after this one are in the ring."""
        self.live: UUID | None = None
        self.torn: list[UUID] = []
        """Replies whose tape is here to its end and is not what that end says of it: never, unless we are broken."""
        self._changes: list[Change] = []
        self._tapes: dict[UUID, Tape] = {}

    def begin(self, rev: int, live: UUID | None) -> None:
        """Start from what the database says; what came before is read from there."""
        self.rev = self.floor = rev
        self.live = live
        self._changes.clear()

    def take_changes(self, changes: Iterable[Change]) -> Missing:
        """Take the next ones and drop the known ones; say when one is missing in between."""
        for change in changes:
            if change.rev <= self.rev:
                continue
            if change.rev > self.rev + 1:
                return Missing.ROWS
            self._take(change)
        return Missing.NOTHING

    def take_read(self, changes: Sequence[Change], rev: int) -> None:
        """Take rows that were read from the database: in order, with holes where a row has changed again since."""
        for change in changes:
            if change.rev > self.rev:
                self._take(change)
        self.rev = max(self.rev, rev)

    def take_entry(self, entry: TapeEntry) -> Missing:
        """Take a stretch of a tape, if it is the live reply's and continues what is here."""
        if entry.message_id != self.live:
            # Of a reply that ended, or of one whose row has not come yet.
            return Missing.NOTHING if entry.message_id in self._tapes else Missing.ROWS
        tape = self._tapes.get(entry.message_id)
        if tape is None or tape.attempt < entry.attempt:
            if entry.start > 0:
                return Missing.TAPE
            tape = Tape(entry.message_id, entry.attempt)
            self._keep(tape)
        if tape.attempt > entry.attempt:
            return Missing.NOTHING
        return Missing.NOTHING if tape.merge(entry.start, entry.parts) else Missing.TAPE

    def take_log(self, message_id: UUID, entries: Iterable[TapeEntry]) -> None:
        """Take what the log of a reply holds, ended or not."""
        for entry in entries:
            tape = self._tapes.get(message_id)
            if (tape is None or tape.attempt < entry.attempt) and entry.start == 0:
                tape = Tape(message_id, entry.attempt)
                self._keep(tape)
            if tape is not None and tape.attempt == entry.attempt:
                tape.merge(entry.start, entry.parts)

    def attach(self, tape: Tape) -> None:
        """Share the tape of a reply that this worker writes."""
        known = self._tapes.get(tape.message_id)
        if known is None or known.attempt <= tape.attempt:
            self._keep(tape)

    def tape_end(self, message_id: UUID) -> tuple[int, int]:
        """Return how far the copy of a tape goes: attempt and position."""
        tape = self._tapes.get(message_id)
        return (0, 0) if tape is None else (tape.attempt, tape.end)

    def unsettled(self) -> list[UUID]:
        """Return the ended replies whose tape has not come to its end: their log is worth a look."""
        return [c.message_id for c in self._changes if c.message_id and not self._is_settled(c)]

    def give_up(self, message_id: UUID) -> None:
        """Wait no longer for the rest of a tape: its viewers get the whole message."""
        for change in self._changes:
            if change.message_id == message_id:
                change.is_settled = True

    def follow(self, position: Position) -> list[Frame] | None:
        """Return everything that follows a position; None when the changes after it are no longer here."""
        if position.rev < self.floor:
            return None
        frames: list[Frame] = []
        if position.rev < self.rev:
            for change in self._changes:
                if change.rev <= position.rev:
                    continue
                if not self._is_settled(change):
                    return frames
                frames.extend(follow_change(position, change, self._tapes.get))
                position = frames[-1].position if frames else position
        if position.reply is not None and position.reply == self.live:
            tape = self._tapes.get(position.reply)
            if tape is not None:
                frames.extend(follow_tape(position, tape))
        return frames

    def find_tape(self, message_id: UUID) -> Tape | None:
        """Return this worker's copy of a tape."""
        return self._tapes.get(message_id)

    def _take(self, change: Change) -> None:
        self._changes.append(change)
        self.rev = change.rev
        if change.is_live:
            self.live = change.message_id
        elif change.message_id is not None and change.message_id == self.live:
            self.live = None
        if len(self._changes) > RING:
            self.floor = self._changes.pop(0).rev

    def _keep(self, tape: Tape) -> None:
        self._tapes.pop(tape.message_id, None)
        self._tapes[tape.message_id] = tape
        # Never the live one, though it be the oldest: its viewers would stand still until it ends.
        old = [message_id for message_id in self._tapes if message_id != self.live]
        for message_id in old[: max(len(old) - OLD_TAPES, 0)]:
            del self._tapes[message_id]

    def _is_settled(self, change: Change) -> bool:
        if change.is_settled or change.ending is None:
            return True
        ending = change.ending
        tape = self._tapes.get(change.message_id) if change.message_id else None
        # An end that says nothing new about the text, and one without any, wait for no tape.
        change.is_settled = ending.rev != change.rev or ending.tape_end == 0
        if not change.is_settled and tape is not None and _is_whole(tape, change):
            change.is_settled = True
            if tape.digest() != ending.digest:
                self.torn.append(tape.message_id)
        return change.is_settled


def follow_change(position: Position, change: Change, find_tape: FindTape) -> list[Frame]:
    """Return what a viewer at `position` is told of a change: an ended reply by the rest of its tape, if it is here."""
    ending, message_id = change.ending, change.message_id
    is_mine = message_id is not None and message_id == position.reply
    if change.is_live and not is_mine:
        return [Frame(change.body, Position(change.rev, message_id))]
    if ending is None or ending.rev <= position.rev:
        return [Frame(change.body, position._replace(rev=change.rev))]
    after = Position(change.rev) if is_mine else position._replace(rev=change.rev)
    frames: list[Frame] = []
    if is_mine and message_id is not None:
        tape = find_tape(message_id)
        # Who claims to hold more than there is gets the whole message, as who lacks some of it does.
        if tape is not None and _is_whole(tape, change) and position[2:] <= (tape.attempt, tape.end):
            frames = follow_tape(position, tape)
            if ending.rev == change.rev:
                return [*frames, Frame(ending.body, after, message_id)]
    # The cursor of the row still says that the end has not been told, should the connection break behind it.
    before = frames[-1].position if frames else position
    return [*frames, Frame(change.body, before), Frame(ending.body, after, message_id)]


def follow_tape(position: Position, tape: Tape) -> list[Frame]:
    """Return what follows a position on a tape; a restart where the viewer has something of an earlier attempt."""
    frames: list[Frame] = []
    if position.attempt > tape.attempt:
        return frames
    if position.attempt < tape.attempt:
        has_text = position.attempt > 0
        position = position._replace(attempt=tape.attempt, n=0)
        if has_text:
            frames.append(Frame(restart(tape.message_id, tape.attempt), position))
    rev, reply, attempt, n = position
    for end, part in tape.after(n):
        position = Position(rev, reply, attempt, end)  # the hot path: `_replace` costs three times as much
        frames.append(Frame(token(tape.head, part) if isinstance(part, str) else part, position))
    return frames


def _is_whole(tape: Tape | None, change: Change) -> bool:
    ending = change.ending
    return tape is not None and ending is not None and tape.attempt == ending.attempt and tape.end >= ending.tape_end
