"""The rows plane: PostgreSQL as the workers see it. Each method is one transaction, and happens at one moment."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from tests.chat.model.rules import Rules, Violation

from parley.chat import owners, protocol, repository, rows
from parley.chat.changes import Change
from parley.chat.cursor import Position
from parley.chat.models import ENDED, LIVE
from parley.chat.protocol import OnBusy
from parley.chat.reading import Standing
from parley.chat.repository import ToStop
from parley.chat.service import Claimed, Committed
from parley.chat.watch import Dead

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
WRITTEN = ("streaming", "stopping")
QUEUE_MAX = 5


@dataclass(slots=True)
class Talk:
    """The row of the conversation."""

    id: UUID
    title: str = ""
    mode: str = "ai"
    rev: int = 0
    meta_rev: int = 0
    last_seq: int = 0
    archived_at: datetime | None = None
    active_at: Any = None


@dataclass(slots=True)
class Row:
    """The row of a message."""

    id: UUID
    conversation_id: UUID
    seq: int
    rev: int
    role: str
    status: str = "complete"
    content: str = ""
    client_id: str | None = None
    author_id: UUID | None = None
    author_name: str | None = None
    question_id: UUID | None = None
    replaces: UUID | None = None
    attempt: int = 0
    owner: UUID | None = None
    takeovers: int = 0
    shown_steps: list[Any] = field(default_factory=list)
    sources: list[Any] = field(default_factory=list)
    finish_reason: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    is_retryable: bool | None = None
    content_length: int | None = None
    content_sha256: bytes | None = None
    tape_end: int | None = None
    ended_rev: int | None = None
    ended_at: Any = None
    rating: str | None = None
    rating_comment: str | None = None
    created_at: datetime = EPOCH


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that is stored."""

    committed: Committed
    question_id: UUID
    before_rev: int


@dataclass(frozen=True, slots=True)
class Missed:
    """What a hub is told that reads."""

    rev: int
    live: UUID | None
    changes: Sequence[Change] | None


@dataclass(frozen=True, slots=True)
class End:
    """How a writer says that its reply ended."""

    status: str
    text: str
    tape_end: int
    steps: Sequence[Any] = ()
    sources: Sequence[Any] = ()


class Store:
    """One conversation and the workers' counters."""

    def __init__(self, conversation_id: UUID, rules: Rules, new_id: Any, most_changes: int) -> None:
        self.talk = Talk(conversation_id)
        self.rows: dict[UUID, Row] = {}
        self.beats: dict[UUID, int] = {}
        self.timeline = "abc-00000001"
        self.ends = Counter[UUID]()
        self._rules = rules
        self._new_id = new_id
        self._most_changes = most_changes

    # What stands.

    def copy(self) -> tuple[Talk, dict[UUID, Row]]:
        """Return what a restore would bring back."""
        return replace(self.talk), {key: replace(row) for key, row in self.rows.items()}

    def restore(self, talk: Talk, kept: dict[UUID, Row], timeline: str) -> None:
        """Go back to a copy: another history begins."""
        self.talk, self.rows, self.timeline = talk, kept, timeline
        self.beats.clear()
        self.ends = Counter({key: 1 for key, row in kept.items() if row.status in ENDED and row.role == "assistant"})

    @property
    def live(self) -> Row | None:
        """The reply that is being written."""
        written = [row for row in self.rows.values() if row.status in WRITTEN]
        if len(written) > 1:
            raise Violation("two replies are written at once")
        return written[0] if written else None

    def unended(self) -> list[Row]:
        """Return the replies that have not ended, in their order."""
        return [row for row in self.rows.values() if row.status in LIVE]

    # What people do.

    def ask(
        self,
        boot_id: UUID,
        question_id: UUID,
        client_id: str,
        on_busy: OnBusy,
        *,
        can_start: bool,
        replaces: UUID | None = None,
    ) -> Asked:
        """Store a question and its reply."""
        known = next((row for row in self.rows.values() if row.client_id == client_id), None)
        if known is not None and self._rules.knows_client_ids:
            return Asked(Committed(self.talk.id), known.id, known.rev - 1)
        committed, before, unended = Committed(self.talk.id), self.talk.rev, self.unended()
        if not self.talk.title:
            committed.changes.append(self.retitle("first").changes[0])
        if on_busy == "interrupt" and unended and unended[0].status in WRITTEN:
            self._stop(unended[0], committed)
        content = f"question {client_id}"
        question = self._add(question_id, "user", client_id=client_id, content=content, replaces=replaces)
        committed.changes.append(rows.change_of(cast("Any", question)))
        if self.talk.mode == "ai" and len(unended) < QUEUE_MAX:
            self._add_reply(boot_id, question.id, committed, can_start=can_start)
        return Asked(committed, question.id, before)

    def again(self, boot_id: UUID, *, can_start: bool) -> Committed:
        """Regenerate the newest reply."""
        committed = Committed(self.talk.id)
        newest = next((row for row in reversed(self.rows.values()) if row.role == "assistant"), None)
        if newest is None or self.talk.mode != "ai" or len(self.unended()) > QUEUE_MAX:
            return committed
        if newest.status == "queued":
            self._end(newest, "stopped")
            committed.changes.append(rows.change_of(cast("Any", newest)))
        elif newest.status in WRITTEN:
            self._stop(newest, committed)
        reply = self._add_reply(boot_id, cast("UUID", newest.question_id), committed, can_start=can_start)
        reply.replaces = newest.id
        committed.changes[-1] = rows.change_of(cast("Any", reply))
        return committed

    def stop(self, message_id: UUID) -> Committed:
        """Stop a reply."""
        committed, reply = Committed(self.talk.id), self.rows.get(message_id)
        if reply is not None and reply.status == "queued":
            self._end(reply, "stopped")
            committed.changes.append(rows.change_of(cast("Any", reply)))
        elif reply is not None and reply.status in WRITTEN:
            self._stop(reply, committed)
        return committed

    def rate(self, message_id: UUID, rating: str) -> Committed:
        """Rate an ended reply."""
        committed, reply = Committed(self.talk.id), self.rows.get(message_id)
        if reply is not None and reply.status in ENDED and reply.rating != rating:
            reply.rating = rating
            repository.touch(cast("Any", self.talk), cast("Any", reply))
            committed.changes.append(rows.change_of(cast("Any", reply)))
        return committed

    def retitle(self, title: str) -> Committed:
        """Rename the conversation."""
        self.talk.title = title
        self.talk.rev += 1
        self.talk.meta_rev = self.talk.rev
        return Committed(self.talk.id, [rows.conversation_change(cast("Any", self.talk))])

    def set_mode(self, mode: str) -> Committed:
        """Let people answer, or the assistant."""
        committed = Committed(self.talk.id)
        change = repository.set_mode(cast("Any", self.talk), mode)
        if change is None:
            return committed
        committed.changes.append(change)
        for reply in self.unended() if mode == "human" else ():
            if reply.status == "queued":
                self._end(reply, "stopped")
                committed.changes.append(rows.change_of(cast("Any", reply)))
            else:
                self._stop(reply, committed)
        return committed

    # What workers do.

    def beat(self, boot_id: UUID) -> tuple[list[tuple[UUID, bool]], dict[UUID, int | None]]:
        """Raise a counter; return its own live rows, and the others' counters."""
        self.beats[boot_id] = self.beats.get(boot_id, 0) + 1
        mine = [(row.id, row.status == "stopping") for row in self.unended() if row.owner == boot_id]
        others: dict[UUID, int | None] = {row.owner: None for row in self.unended() if row.owner is not None}
        others.update(self.beats)
        others.pop(boot_id, None)
        return mine, others

    def unowned(self, dead: Collection[UUID]) -> list[UUID]:
        """Return what may be claimed."""
        found = self.unended()
        return [
            row.id
            for index, row in enumerate(found)
            if (row.owner is None or row.owner in dead) and (row.status != "queued" or index == 0)
        ]

    def still_dead(self, dead: Dead) -> Dead:
        """Return those whose counter has not moved since."""
        if not self._rules.looks_at_the_dead_again:
            return dead
        return {boot_id: beat for boot_id, beat in dead.items() if self.beats.get(boot_id) == beat}

    def claim(self, boot_id: UUID, message_id: UUID, dead: Collection[UUID]) -> Committed:
        """Take a reply that nobody writes."""
        committed, reply = Committed(self.talk.id), self.rows.get(message_id)
        if reply is None or reply.status not in LIVE or (reply.owner is not None and reply.owner not in dead):
            return committed
        if reply.status == "queued" and self.unended()[0] is not reply:
            return committed
        reply.takeovers += reply.owner in dead
        if reply.takeovers > owners.MOST_TAKEOVERS:
            reply.attempt += self._rules.lost_replies_take_an_attempt
            self._end(reply, "failed", error=owners.LOST)
            committed.changes.append(rows.change_of(cast("Any", reply)))
            return committed
        self._claim(reply, boot_id, committed)
        return committed

    def end(self, boot_id: UUID, message_id: UUID, attempt: int, end: End, *, has_room: bool) -> Committed | None:
        """End a reply and begin the next one; None where it is no longer this writer's."""
        committed, reply = Committed(self.talk.id), self.rows.get(message_id)
        if reply is None:
            return None
        if self._rules.ends_only_its_own_attempt and (reply.attempt != attempt or reply.owner != boot_id):
            return None
        if reply.status in ENDED and self._rules.ends_once:
            committed.changes.append(rows.change_of(cast("Any", reply)))
            return committed
        status = "stopped" if reply.status == "stopping" else end.status
        self._end(reply, status, content=end.text, tape_end=end.tape_end, shown_steps=end.steps, sources=end.sources)
        committed.changes.append(rows.change_of(cast("Any", reply)))
        unended = self.unended()
        promoted = next((row for row in unended if row.status == "queued"), None)
        if has_room and promoted is not None and unended[0] is promoted:
            self._claim(promoted, boot_id, committed)
        return committed

    def raise_attempt(self, boot_id: UUID, message_id: UUID, attempt: int) -> bool:
        """Begin again with another model."""
        reply = self.rows.get(message_id)
        is_mine = reply is not None and reply.owner == boot_id and reply.attempt == attempt and reply.status in WRITTEN
        if is_mine and reply is not None:
            reply.attempt += 1
        return is_mine

    def release(self, boot_id: UUID, message_ids: Collection[UUID]) -> bool:
        """Give replies back."""
        for row in self.unended():
            if row.owner == boot_id and row.id in message_ids:
                row.owner = None
        return True

    # What is read.

    def changes_after(self, rev: int) -> list[Change] | None:
        """Return the changed messages after a rev, in order; None where they are too many."""
        found = sorted((row for row in self.rows.values() if row.rev > rev), key=lambda row: row.rev)
        return None if len(found) > self._most_changes else [rows.change_of(cast("Any", row)) for row in found]

    def read_missed(self, after: int, talk: Talk, live: UUID | None) -> Missed:
        """Read the rows that a hub lacks."""
        changes = self.changes_after(after)
        if changes is None:
            return Missed(talk.rev, live, None if self._rules.resets_what_is_far_behind else ())
        return Missed(talk.rev, live, rows.in_order(changes, cast("Any", talk), after))

    def read_standing(self, position: Position | None, reason: str, talk: Talk, live: UUID | None) -> Standing:
        """Read what a viewer is given that comes; see reading.read_standing."""
        conversation = cast("Any", talk)
        if position is not None and position.rev > talk.rev:
            position, reason = None, "ahead"
        if position is not None and position.rev == talk.rev:
            return Standing(conversation, "", live, ())
        if position is not None:
            changes = self.changes_after(position.rev)
            if changes is not None:
                return Standing(conversation, "", live, rows.in_order(changes, conversation, position.rev))
            reason = "behind"
        views: list[Any] = [rows.message_view(cast("Any", row)) for row in self.rows.values()]
        body = protocol.reset(reason, rows.conversation_view(conversation), views, has_more=False)
        return Standing(conversation, "", live, None, body)

    # Inside.

    def _add(self, message_id: UUID, role: str, **values: Any) -> Row:
        self.talk.last_seq += 1
        self.talk.rev += 1
        row = Row(message_id, self.talk.id, self.talk.last_seq, self.talk.rev, role, **values)
        self.rows[row.id] = row
        return row

    def _add_reply(self, boot_id: UUID, question_id: UUID, committed: Committed, *, can_start: bool) -> Row:
        starts = can_start and (not self.unended() or not self._rules.promotes_only_when_free)
        reply = self._add(
            self._new_id(), "assistant", question_id=question_id, status="streaming" if starts else "queued"
        )
        if starts:
            reply.owner, reply.attempt = boot_id, 1
            committed.claimed.append(Claimed(self.talk.id, reply.id, 1))
        committed.changes.append(rows.change_of(cast("Any", reply)))
        return reply

    def _stop(self, reply: Row, committed: Committed) -> None:
        reply.status = "stopping"
        committed.stops.append(ToStop(reply.id, reply.owner))

    def _claim(self, reply: Row, boot_id: UUID, committed: Committed) -> None:
        if repository.claim(cast("Any", self.talk), cast("Any", reply), boot_id):
            committed.changes.append(rows.change_of(cast("Any", reply)))
        is_stopping = reply.status == "stopping"
        committed.claimed.append(Claimed(self.talk.id, reply.id, reply.attempt, is_stopping=is_stopping))

    def _end(self, reply: Row, status: str, **values: Any) -> None:
        self.ends[reply.id] += 1
        if self.ends[reply.id] > 1:
            raise Violation("a reply ended twice")
        repository.end(cast("Any", self.talk), cast("Any", reply), status, **values)
