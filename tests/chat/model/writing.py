"""Replies that one worker writes, and the rounds in which their tapes go to Redis: replies.py and replicator.py."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tests.chat.model.store import End

from parley.chat import protocol
from parley.chat.feed import Fate, Feed
from parley.chat.hub import Hub
from parley.chat.replicator import FINISH_S, RETRY_BASE_S, RETRY_CAP_S, ROUND_BYTES
from parley.chat.service import Claimed, Committed
from parley.chat.tape import Part, Tape
from parley.chat.wire import TapeEntry, decode, log_key_of
from parley.core.fanout import log

if TYPE_CHECKING:
    from tests.chat.model.worker import Worker
    from tests.chat.model.world import World

PIECES = ("a", "word ", "é", "漢字", "😀", '"\\', "\n", "e\u0301", "\u2028", "longer than the others, ")


@dataclass(slots=True, eq=False)
class Writing:
    """One reply that this worker writes."""

    claimed: Claimed
    tape: Tape
    pieces_left: int
    is_ending: bool = False
    is_told: bool = False
    """To end early."""
    steps: list[Any] = field(default_factory=list)
    sources: list[Any] = field(default_factory=list)


class Writer:
    """The replies of this worker."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._world: World = worker.world
        self.running: dict[UUID, Writing | None] = {}
        self._feeds: dict[Tape, Feed] = {}
        self._is_sending = False
        self._failed_rounds = 0
        self._due_at = float("inf")

    @property
    def has_room(self) -> bool:
        """Whether it may claim another reply."""
        return not self._worker.is_draining

    def expect(self, message_id: UUID) -> None:
        """Know of a claim before its commit is answered."""
        self.running.setdefault(message_id, None)

    def expect_all(self, committed: Committed) -> None:
        """The same, for what a transaction claims."""
        for claimed in committed.claimed:
            self.expect(claimed.message_id)

    def forget(self, message_id: UUID) -> None:
        """It is not written here."""
        self.running.pop(message_id, None)

    def start(self, claimed: Claimed) -> None:
        """Write a reply."""
        world = self._world
        writing = Writing(claimed, Tape(claimed.message_id, claimed.attempt), world.random.randint(0, 14))
        self.running[claimed.message_id] = writing
        if claimed.is_stopping:
            writing.is_ending = True
            self._read_text(claimed.message_id, lambda text: self._store_end(writing, End("stopped", text, 0)))
        else:
            self._worker.later(world.delay(), partial(self._show, writing))

    def end_early(self, message_id: UUID, why: str) -> None:
        """Stop writing a reply before it is done."""
        writing = self.running.get(message_id)
        if writing is None or writing.is_ending or writing.is_told:
            return
        if why == "fenced":
            self._world.check_fence(self._worker.boot_id, writing.claimed)
        writing.is_told = True
        self._world.note(f"{self._worker} is told that its reply is {why}")
        self._worker.later(0.0, partial(self._leave, writing, why))

    def _is_written_here(self, tape: Tape) -> bool:
        """Whether nobody on this worker has begun anew since."""
        writing = self.running.get(tape.message_id)
        only_its_own = self._world.rules.fences_only_the_tape_s_own_writer
        return not only_its_own or (writing is not None and writing.tape is tape)

    def _leave(self, writing: Writing, why: str) -> None:
        writing.is_ending = True
        if why == "stopped":
            self._end(writing, "stopped")
            return
        if why == "released":
            self._feeds.pop(writing.tape, None)
            release = partial(self._world.store.release, self._worker.boot_id, [writing.claimed.message_id])
            self._worker.query(release, lambda _: self._done(writing))
        else:
            self._done(writing)

    # Writing.

    def _show(self, writing: Writing) -> None:
        tape = writing.tape
        if writing.is_ending:
            return
        self._world.begin_tape(tape)
        self._worker.watching.attach(tape)
        self._feeds[tape] = Feed(tape, self._world.store.talk.id)
        self._write(writing, protocol.start(tape.message_id, tape.attempt, "agent", "model"))
        self._worker.later(self._world.pace_s(), partial(self._go_on, writing, tape))

    def _write(self, writing: Writing, part: Part) -> None:
        self._world.grow_tape(writing.tape, part)
        writing.tape.write(part)
        self._worker.watching.touch()
        self._send()

    def _go_on(self, writing: Writing, tape: Tape) -> None:
        world = self._world
        has_ended = (writing.is_ending or writing.is_told) and world.rules.stops_writing_at_the_end
        if has_ended or writing.tape is not tape:
            return
        if writing.pieces_left <= 0 and not world.is_held_open:
            if not writing.is_ending:
                writing.is_ending = True
                self._end(writing, world.random.choice(["complete", "complete", "failed"]))
            if world.rules.stops_writing_at_the_end or writing.pieces_left < -2:
                return
        writing.pieces_left -= 1
        kind = world.random.random()
        if kind < 0.1:
            self._use_tool(writing)
        elif kind < 0.13 and not writing.is_ending:
            self._begin_again(writing)
            return
        else:
            self._write(writing, "".join(world.random.choices(PIECES, k=world.random.randint(1, 6))))
        self._worker.later(world.pace_s(), partial(self._go_on, writing, tape))

    def _use_tool(self, writing: Writing) -> None:
        message_id, call_id = writing.tape.message_id, f"call-{len(writing.steps)}"
        self._write(writing, protocol.tool_call(message_id, call_id, "look", "Looking"))
        self._write(writing, protocol.tool_result(message_id, call_id, ok=True, summary="found"))
        source: Any = {"number": len(writing.sources) + 1, "id": call_id, "title": "T", "url": None, "excerpt": ""}
        self._write(writing, protocol.sources(message_id, [source]))
        writing.sources.append(source)
        writing.steps.append({"call_id": call_id, "name": "look", "label": "Looking", "ok": True, "summary": "found"})

    def _begin_again(self, writing: Writing) -> None:
        old = writing.tape
        store, boot_id = self._world.store, self._worker.boot_id

        def raised(answer: tuple[bool] | None) -> None:
            if writing.is_ending or writing.is_told:
                return
            if answer is None:
                # Also where it had happened: the beat finds out.
                self._worker.later(0.2, lambda: self._worker.query(ask, raised))
            elif not answer[0]:
                writing.is_ending = True
                self._done(writing)
            else:
                self._feeds.pop(old, None)
                self._worker.watching.detach(old)
                writing.claimed = replace(writing.claimed, attempt=old.attempt + 1)
                writing.tape = Tape(old.message_id, old.attempt + 1)
                writing.steps, writing.sources = [], []
                self._show(writing)

        def ask() -> tuple[bool]:
            return (store.raise_attempt(boot_id, old.message_id, old.attempt),)

        self._worker.query(ask, raised)

    # The end.

    def _end(self, writing: Writing, status: str) -> None:
        tape = writing.tape
        end = End(status, tape.text(), tape.end, list(writing.steps), list(writing.sources))
        self._store_end(writing, end)

    def _store_end(self, writing: Writing, end: End) -> None:
        world, worker, claimed = self._world, self._worker, writing.claimed
        promoted: list[Claimed] = []

        def store() -> tuple[Committed | None]:
            committed = world.store.end(
                worker.boot_id, claimed.message_id, claimed.attempt, end, has_room=self.has_room
            )
            if committed is not None:
                self.expect_all(committed)
                promoted.extend(committed.claimed)
                world.check_end(claimed, end)
            return (committed,)

        def stored(answer: tuple[Committed | None] | None) -> None:
            if answer is None:
                for one in promoted:
                    self.forget(one.message_id)
                worker.later(world.random.uniform(0.05, 0.5), lambda: self._store_end(writing, end))
                return
            (committed,) = answer
            self._done(writing)
            if committed is not None:
                world.note(f"{worker} has ended a reply as {end.status}")
                worker.follow_up(committed)

        worker.query(store, stored)

    def _done(self, writing: Writing) -> None:
        self._finish(writing.tape)
        self._worker.watching.detach(writing.tape)
        if self.running.get(writing.claimed.message_id) is writing:
            self.forget(writing.claimed.message_id)

    def _read_text(self, message_id: UUID, then: Any) -> None:
        """Read what the log still has, as Missed.read_text does."""
        world = self._world

        def take(entries: Sequence[log.Entry] | None) -> None:
            hub = Hub(world.store.talk.id)
            news = (decode(entry.data) for entry in entries or ())
            hub.take_log(message_id, (one for one in news if isinstance(one, TapeEntry)))
            tape = hub.find_tape(message_id)
            then("" if tape is None else tape.text())

        self._worker.redis(lambda: world.redis.read(log_key_of(world.store.talk.id, message_id), 0, 0, 10**6), take)

    # To Redis.

    def _finish(self, tape: Tape) -> None:
        feed = self._feeds.get(tape)
        if feed is None:
            return
        feed.gives_up_at = self._world.schedule.now + FINISH_S
        if feed.has_news:
            self._send()
        else:
            del self._feeds[tape]

    def _send(self) -> None:
        if not self._is_sending and not self._failed_rounds:
            self._is_sending = True
            self._worker.later(0.0, self._round)

    def _round(self) -> None:
        now, sent = self._world.schedule.now, []
        for tape, feed in self._feeds.items():
            if writes := feed.writes(self._worker.boot_id, now, ROUND_BYTES):
                sent.append((tape, writes))
        if not sent:
            self._is_sending = False
            self._failed_rounds = 0
            if self._feeds:
                due_at = min(feed.due_at() for feed in self._feeds.values())
                self._worker.later(max(due_at - now, 0.0), self._wake)
            return
        writes = [write for _, of_tape in sent for write in of_tape]
        self._worker.redis(lambda: self._world.redis.append(writes), partial(self._learn, sent))

    def _wake(self) -> None:
        self._send()

    def _learn(self, sent: list[tuple[Tape, Any]], answers: Sequence[log.End] | None) -> None:
        first = 0
        for tape, writes in sent:
            feed = self._feeds.get(tape)
            if feed is not None:
                got: Sequence[log.End | None] = [None] * len(writes)
                fate = feed.learn(answers[first : first + len(writes)] if answers is not None else got)
                if fate is not Fate.GOES_ON:
                    del self._feeds[tape]
                if fate is Fate.FENCED and self._is_written_here(tape):
                    self.end_early(tape.message_id, "fenced")
            first += len(writes)
        self._failed_rounds = self._failed_rounds + 1 if answers is None else 0
        if answers is None:
            pause_s = min(RETRY_BASE_S * 2.0 ** min(self._failed_rounds - 1, 10), RETRY_CAP_S)
            self._worker.later(pause_s, self._round)
        else:
            self._round()
