"""The ConnectionManager: a hub for each conversation that is watched here, and whoever watches it.

First in subscribes, last out leaves a while later. News come from this worker's own commits and tapes, and from Redis
as hints; what a hub misses is read. Nobody here waits for a viewer.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from random import random
from uuid import UUID

import structlog

from parley.auth.schemas import Identity
from parley.chat import protocol, repository
from parley.chat.access import record_opening
from parley.chat.changes import Change
from parley.chat.connection import TOO_SLOW, Payload, Stretch, Viewer
from parley.chat.cursor import Position, cursor_prefix, decode_cursor, encode_cursor
from parley.chat.errors import ConversationNotFound
from parley.chat.hub import Frame, Hub, Missing
from parley.chat.metrics import ChatMetrics
from parley.chat.protocol import CloseCode
from parley.chat.reading import Standing, read_standing
from parley.chat.rows import conversation_change, in_order
from parley.chat.settings import ChatSettings
from parley.chat.tape import Tape
from parley.chat.wire import (
    EphemeralNews,
    RowNews,
    TapeEntry,
    channel_of,
    decode,
    encode_ephemeral,
    encode_rows,
    is_from,
    log_key_of,
)
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable
from parley.core.fanout.broker import Broker
from parley.core.fanout.log import Entry, TapeLog
from parley.core.redis import REDIS_AWAY
from parley.core.tasks import Tasks

log = structlog.get_logger(__name__)

AT_ONCE = 256  # viewers served before others have their turn
READS_SIDE_BY_SIDE = 4  # of the pool's connections; questions need some as well
TAPE_WAIT_S = 1.0  # for the rest of an ended tape, DESIGN 5
TEXT_WAIT_S = 5.0  # for a Redis that does not answer, where nobody else has the text
TAPE_POLL_S = 0.1
GOODBYES_PER_S = 200  # about half of what a worker can take in
BACK_WITHIN_MS = 2000  # a successor is there already


@dataclass(frozen=True, slots=True)
class Opening:
    """A place in a conversation, taken; what its viewer is given first."""

    watched: "Watched"
    ready: bytes
    frames: Sequence[Frame]
    position: Position
    user_name: str
    timeline: str
    """Of the database it was read from."""
    began_at: float
    """When somebody came for it, by the clock that never jumps."""


@dataclass(slots=True, eq=False)
class Watched:
    """A conversation that is watched here: the hub, and what it needs to be one."""

    hub: Hub
    subscribed: asyncio.Task[bool]
    prefix: str = ""
    """Of its cursors."""
    timeline: str = ""
    """Of the database it was read from; none where it is to be read anew."""
    viewers: set[Viewer] = field(default_factory=set)
    holds: int = 0
    is_loaded: bool = False
    owner_id: UUID | None = None
    early: list[bytes | Sequence[Change]] = field(default_factory=list)
    """News that came before the first read."""
    shared: dict[tuple[type, Position], Stretch] = field(default_factory=dict)
    last_shared: Stretch | None = None
    """Nearly everybody stands where the last one stood: told by identity, which costs no hash."""
    is_reading: bool = False
    reads_again: bool = False
    leaving: asyncio.TimerHandle | None = None

    @property
    def conversation_id(self) -> UUID:
        return self.hub.conversation_id


class ConnectionManager:
    """Everything that is watched on this worker."""

    def __init__(  # what a worker has one of
        self,
        *,
        database: Database,
        broker: Broker,
        tape_log: TapeLog,
        tasks: Tasks,
        settings: ChatSettings,
        clock: Clock,
        boot_id: UUID,
        metrics: ChatMetrics,
    ) -> None:
        self._metrics = metrics
        self._database = database
        self._broker = broker
        self._log = tape_log
        self._tasks = tasks
        self._settings = settings
        self._clock = clock
        self._boot_id = boot_id
        self.watched: dict[UUID, Watched] = {}
        self._tapes: dict[UUID, Tape] = {}
        self._dirty: dict[Watched, None] = {}
        self._reads = asyncio.Semaphore(READS_SIDE_BY_SIDE)

    # Coming and going.

    async def open(
        self,
        identity: Identity,
        conversation_id: UUID,
        cursor: str | None = None,
        since: Position | None = None,
        *,
        fresh: Standing | None = None,
    ) -> Opening:
        """Take a place and say what leads to the present; raise ConversationNotFound. Ends with `leave`.

        `fresh` is all there is of a conversation that began in this turn of the loop: nothing else can have changed it.
        """
        began_at, position, reason = self._clock.monotonic(), since, "joined"
        if cursor is not None:
            if not self._database.timeline:
                await self._database.ping()
            position, reason = self._read_cursor(conversation_id, cursor)
        watched = self._hold(conversation_id)
        try:
            standing = fresh
            if standing is None:
                await asyncio.shield(watched.subscribed)
                standing = await read_standing(self._database, identity, conversation_id, position, reason)
            if not watched.is_loaded:
                self._begin(watched, standing)
            timeline = watched.timeline
            # Also where it was loaded: a guest's may have become somebody else's.
            watched.owner_id = standing.conversation.owner_id
            if position is not None and position.reply is not None and watched.hub.find_tape(position.reply) is None:
                await self._read_logs([(watched, position.reply)])
            await record_opening(self._database, identity, standing.conversation)
        except BaseException:
            self._release(watched)
            raise
        if cursor is not None:
            self._note_resume(standing, position)
        frames, position = standing.frames(position, watched.hub.find_tape)
        user: protocol.UserView = {"id": identity.user_id, "name": standing.user_name, "role": identity.role}
        view = conversation_change(standing.conversation).view
        ready = protocol.ready(view, user, self._settings.heartbeat_s)  # type: ignore[arg-type]
        return Opening(watched, ready, frames, position, standing.user_name, timeline, began_at)

    def enter(self, opening: Opening, viewer: Viewer, *answers: bytes) -> None:
        """Let a viewer in: `ready`, its own answers, what leads to the present, and from then on everything."""
        watched = opening.watched
        # Read from a history that has been lost since: nothing of it is told, and no cursor.
        is_lost = opening.timeline != watched.timeline
        viewer.watched, viewer.position = watched, Position(watched.hub.rev) if is_lost else opening.position
        watched.viewers.add(viewer)
        first = [viewer.frame(body) for body in (opening.ready, *answers)]
        if viewer.until is not None and viewer.until in {frame.ends for frame in opening.frames}:
            viewer.reach()
        viewer.go_live(self, [*first, *self._framed(watched, viewer, () if is_lost else opening.frames)])
        if is_lost:
            self.send_away(viewer)
        if kind := viewer.framing.kind:
            self._metrics.viewers.labels(kind).inc()
            self._metrics.joins.labels(kind).inc()
            self._metrics.join_duration.labels(kind).observe(self._clock.monotonic() - opening.began_at)

    def leave(self, watched: Watched, viewer: Viewer | None = None) -> None:
        """Give the place back."""
        if viewer is not None:
            viewer.is_open = False
            if viewer in watched.viewers and viewer.framing.kind:
                self._metrics.viewers.labels(viewer.framing.kind).dec()
                if viewer.closed is TOO_SLOW:
                    self._metrics.slow_drops.inc()
            watched.viewers.discard(viewer)
        self._release(watched)

    async def drain(self, within_s: float) -> None:
        """Send every viewer away, at random moments so that they do not come back all at once."""
        viewers = [viewer for viewer in self._viewers() if viewer.until is None]
        within_s = min(within_s, len(viewers) / GOODBYES_PER_S)
        moments = sorted(random() * within_s for _ in viewers)  # noqa: S311  # spreads load, guards nothing
        began = self._clock.monotonic()
        for at_s, viewer in zip(moments, viewers, strict=True):
            await self._clock.sleep(max(at_s - (self._clock.monotonic() - began), 0.0))
            self.send_away(viewer)

    def end_everything(self) -> None:
        """Send away whoever is still there."""
        for viewer in self._viewers():
            self.send_away(viewer)

    def send_away(self, viewer: Viewer) -> None:
        """Tell a viewer to come back, to another worker or to this one's successor, in a moment of its own."""
        viewer.answer(protocol.draining(int(random() * BACK_WITHIN_MS)))  # noqa: S311  # spreads load, guards nothing
        viewer.close(CloseCode.DRAINING, "draining")

    def _viewers(self) -> list[Viewer]:
        return [viewer for watched in self.watched.values() for viewer in watched.viewers]

    # News.

    def tell(self, conversation_id: UUID, changes: Sequence[Change]) -> None:
        """Show committed changes to whoever watches, here and on other workers."""
        if not changes:
            return
        watched = self.watched.get(conversation_id)
        if watched is not None:
            self._take_rows(watched, changes)
        data = encode_rows(self._boot_id, [change.to_news() for change in changes])
        self._tasks.spawn("tell other workers", self._publish(conversation_id, data))

    def hint(self, conversation_id: UUID, body: bytes, *, but: Viewer | None = None) -> None:
        """Show an event that is not replayed."""
        watched = self.watched.get(conversation_id)
        if watched is not None:
            self._hint_here(watched, body, but)
        self._tasks.spawn(
            "hint to other workers", self._publish(conversation_id, encode_ephemeral(self._boot_id, body))
        )

    def attach(self, conversation_id: UUID, tape: Tape) -> None:
        """Share the tape of a reply that this worker writes."""
        self._tapes[tape.message_id] = tape
        watched = self.watched.get(conversation_id)
        if watched is not None:
            watched.hub.attach(tape)
            self._touch(watched)

    def detach(self, tape: Tape) -> None:
        """This worker writes it no longer."""
        if self._tapes.get(tape.message_id) is tape:
            del self._tapes[tape.message_id]

    def grown(self, conversation_id: UUID) -> None:
        """A tape that is written here has grown."""
        watched = self.watched.get(conversation_id)
        if watched is not None:
            self._touch(watched)

    # Where viewers' news come from; see connection.Source.

    def following(self, viewer: Viewer) -> Stretch | None:
        """Return what follows the viewer's position; whoever stands at the same place shares the bytes."""
        watched: Watched = viewer.watched
        last = watched.last_shared
        if last is not None and last.before is viewer.position and last.framing is viewer.framing:
            return last
        shared = watched.last_shared = self._shared(watched, viewer)
        return shared

    def _shared(self, watched: Watched, viewer: Viewer) -> Stretch | None:
        key = (viewer.framing, viewer.position)
        shared = watched.shared.get(key)
        if shared is None:
            frames = watched.hub.follow(viewer.position)
            if frames is None:
                return None
            position = frames[-1].position if frames else viewer.position
            ends = frozenset(frame.ends for frame in frames if frame.ends is not None)
            payloads = self._framed(watched, viewer, frames)
            shared = watched.shared[key] = Stretch(viewer.position, viewer.framing, payloads, position, ends)
        return shared

    async def catch_up(self, viewer: Viewer) -> Sequence[Payload]:
        """Read what a viewer has missed and the hub no longer has."""
        watched: Watched = viewer.watched
        position = viewer.position
        standing = await read_standing(self._database, viewer.identity, watched.conversation_id, position, "behind")
        frames, viewer.position = standing.frames(position, watched.hub.find_tape)
        if viewer.until is not None and (
            viewer.until in {frame.ends for frame in frames}
            or (standing.changes is None and await self._has_ended(viewer.until, viewer.position.rev))
        ):
            viewer.reach()
        return self._framed(watched, viewer, frames)

    async def _has_ended(self, message_id: UUID, by_rev: int) -> bool:
        """Return whether a `reset` of that rev held the end of a reply."""
        async with self._database.transaction() as db:
            message = await repository.find_message(db, message_id)
        return message is None or (message.ended_rev is not None and message.ended_rev <= by_rev)

    # What was missed.

    async def read_live_tapes(self, every: Sequence[Watched]) -> None:
        """Read the tapes that are written elsewhere from their ends, all in one go."""
        await self._read_logs(
            [(one, one.hub.live) for one in every if one.hub.live is not None and one.hub.live not in self._tapes]
        )

    def read_soon(self, watched: Watched) -> None:
        """Read the rows and tapes that a hub lacks; one read at a time, and one more for whoever asks meanwhile."""
        if not watched.is_loaded:
            return
        if watched.is_reading:
            watched.reads_again = True
            return
        watched.is_reading = True
        self._tasks.spawn("read what is missing", self._read(watched))

    async def _read(self, watched: Watched) -> None:
        try:
            while True:
                watched.reads_again = False
                with suppress(DatabaseUnavailable):  # the sweep comes again, and tapes go on meanwhile
                    async with self._reads:
                        await self._read_rows(watched)
                await self._read_tapes(watched)
                if not watched.reads_again:
                    return
        finally:
            watched.is_reading = False

    async def _read_rows(self, watched: Watched) -> None:
        hub = watched.hub
        async with self._database.snapshot() as db:
            conversation = await repository.find_conversation(db, watched.conversation_id)
            if conversation is None or conversation.deleted_at is not None:
                self.end_all(watched, CloseCode.GONE, "conversation_deleted")
                return
            if conversation.rev <= hub.rev:
                return
            after_rev = hub.rev
            changes = await repository.list_changes(db, watched.conversation_id, after_rev)
            live = await repository.find_live(db, watched.conversation_id)
        if changes is None:
            hub.begin(conversation.rev, live)  # too far behind: its viewers read for themselves
        else:
            hub.take_read(in_order(changes, conversation, after_rev), conversation.rev)
        self._attach_own(watched)
        self._touch(watched)

    async def _read_tapes(self, watched: Watched) -> None:
        """Read the live tape from its end, and those of ended replies until they are whole or time is up."""
        hub = watched.hub
        if hub.live is not None and hub.live not in self._tapes:
            await self._read_logs([(watched, hub.live)])
        latest = self._clock.monotonic() + TAPE_WAIT_S
        while missing := self._unsettled(hub):
            is_known = await self._read_logs([(watched, message_id) for message_id in missing])
            if not is_known or self._clock.monotonic() > latest:
                for message_id in hub.unsettled():
                    hub.give_up(message_id)
                self._touch(watched)
                return
            if hub.unsettled():
                await self._clock.sleep(TAPE_POLL_S)

    async def _read_logs(self, reads: Sequence[tuple[Watched, UUID]]) -> bool:
        """Take what the logs hold behind the copies here, in one go; False where Redis does not say."""
        if not reads:
            return True
        keys = [(log_key_of(one.conversation_id, reply), *one.hub.tape_end(reply)) for one, reply in reads]
        found = await self._log.read(keys)
        for (one, reply), entries in zip(reads, found, strict=True):
            if entries:
                one.hub.take_log(reply, _tape_entries(entries))
                self._touch(one)
        return None not in found

    async def read_text(self, conversation_id: UUID, message_id: UUID) -> str:
        """Return the text that the log still has of a reply, of its last attempt there."""
        hub, key, seen = Hub(conversation_id), log_key_of(conversation_id, message_id), (-1, -1)
        latest = self._clock.monotonic() + TEXT_WAIT_S
        while (end := hub.tape_end(message_id)) != seen:
            (entries,) = await self._log.read([(key, *end)])
            if entries is None and self._clock.monotonic() < latest:
                await self._clock.sleep(TAPE_POLL_S)  # not known, which is not nothing
                continue
            hub.take_log(message_id, _tape_entries(entries or ()))
            seen = end
        tape = hub.find_tape(message_id)
        return "" if tape is None else tape.text()

    # Inside.

    def _hold(self, conversation_id: UUID) -> Watched:
        watched = self.watched.get(conversation_id)
        if watched is None:
            watched = self._watch(conversation_id)
        if watched.leaving is not None:
            watched.leaving.cancel()
            watched.leaving = None
        watched.holds += 1
        return watched

    def _watch(self, conversation_id: UUID) -> Watched:
        def hear(data: bytes) -> None:
            self._hear(watched, data)

        subscribing = self._tasks.spawn("subscribe", self._broker.subscribe(channel_of(conversation_id), hear))
        watched = self.watched[conversation_id] = Watched(Hub(conversation_id), subscribing)
        return watched

    def _release(self, watched: Watched) -> None:
        watched.holds -= 1
        if watched.holds > 0 or self.watched.get(watched.conversation_id) is not watched:
            return
        linger_s = self._settings.linger_s if watched.is_loaded else 0.0
        watched.leaving = asyncio.get_running_loop().call_later(linger_s, self._forget, watched)

    def _forget(self, watched: Watched) -> None:
        if watched.holds == 0 and self.watched.pop(watched.conversation_id, None) is watched:
            self._broker.unsubscribe(channel_of(watched.conversation_id))

    def _begin(self, watched: Watched, standing: Standing) -> None:
        watched.is_loaded = True
        watched.shared.clear()
        watched.last_shared = None
        watched.timeline = self._database.timeline
        watched.prefix = cursor_prefix(watched.timeline, watched.conversation_id)
        watched.hub.begin(standing.conversation.rev, standing.live)
        self._attach_own(watched)
        early, watched.early = watched.early, []
        for news in early:
            if isinstance(news, bytes):
                self._hear(watched, news)
            else:
                self._take_rows(watched, news)
        if standing.live is not None and standing.live not in self._tapes:
            self.read_soon(watched)

    def _attach_own(self, watched: Watched) -> None:
        own = self._tapes.get(watched.hub.live) if watched.hub.live else None
        if own is not None:
            watched.hub.attach(own)

    def _read_cursor(self, conversation_id: UUID, text: str) -> tuple[Position | None, str]:
        cursor = decode_cursor(text)
        if cursor is None:
            return None, "cursor_unreadable"
        if cursor.conversation_id != conversation_id:
            self._metrics.resumes.labels("refused").inc()
            raise ConversationNotFound
        if cursor.timeline != self._database.timeline:
            return None, "other_history"
        return cursor.position, "resumed"

    def _unsettled(self, hub: Hub) -> list[UUID]:
        missing = hub.unsettled()
        if hub.torn:
            self._note_torn(hub)
        return missing

    def _note_resume(self, standing: Standing, position: Position | None) -> None:
        if position is None or standing.changes is None:
            self._metrics.resumes.labels("reset").inc()
        else:
            self._metrics.resumes.labels("continued").inc()
            self._metrics.resume_gap.observe(standing.conversation.rev - position.rev)

    def _note_torn(self, hub: Hub) -> None:
        """Tell of texts that are not what their ends say: viewers find it too, and their clients say so."""
        torn, hub.torn = hub.torn, []
        for message_id in torn:
            self._metrics.mismatches.inc()
            log.error("reply_text_differs", conversation_id=str(hub.conversation_id), message_id=str(message_id))

    def _hear(self, watched: Watched, data: bytes) -> None:
        if is_from(self._boot_id, data):
            return
        if not watched.is_loaded:
            watched.early.append(data)
            return
        news = decode(data)
        if isinstance(news, RowNews):
            self._take_rows(watched, [Change.from_news(change) for change in news.changes])
        elif isinstance(news, TapeEntry):
            if watched.hub.take_entry(news) is not Missing.NOTHING:
                self.read_soon(watched)
            self._touch(watched)
        elif isinstance(news, EphemeralNews):
            self._hint_here(watched, news.body, None)

    def _take_rows(self, watched: Watched, changes: Sequence[Change]) -> None:
        if not watched.is_loaded:
            watched.early.append(changes)
            return
        if watched.hub.take_changes(changes) is Missing.ROWS or watched.hub.unsettled():
            self.read_soon(watched)
        if watched.hub.torn:
            self._note_torn(watched.hub)
        self._attach_own(watched)
        self._touch(watched)

    def _hint_here(self, watched: Watched, body: bytes, but: Viewer | None) -> None:
        framed: dict[type, Payload] = {}
        for viewer in watched.viewers:
            if viewer is not but:
                payload = framed.get(viewer.framing)
                if payload is None:
                    payload = framed[viewer.framing] = viewer.frame(body)
                viewer.hint(payload)

    def _touch(self, watched: Watched) -> None:
        """Serve the viewers once this turn of the loop is over, however often that is said in it."""
        watched.shared.clear()
        watched.last_shared = None
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._serve_dirty)
        self._dirty[watched] = None

    def _serve_dirty(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for watched in dirty:
            if len(watched.viewers) <= AT_ONCE:
                self._serve(tuple(watched.viewers))
            else:
                self._serve_some(iter(tuple(watched.viewers)))

    def _serve_some(self, viewers: Iterator[Viewer]) -> None:
        some = list(islice(viewers, AT_ONCE))
        self._serve(some)
        if len(some) == AT_ONCE:
            asyncio.get_running_loop().call_soon(self._serve_some, viewers)

    def _serve(self, viewers: Sequence[Viewer]) -> None:
        for viewer in viewers:
            viewer.push()

    def _framed(self, watched: Watched, viewer: Viewer, frames: Sequence[Frame]) -> list[Payload]:
        return [viewer.frame(frame.body, encode_cursor(watched.prefix, frame.position)) for frame in frames]

    def start_over(self, watched: Watched) -> None:
        """The database goes on from another moment than the hub knows: whoever comes back gets a `reset`."""
        watched.is_loaded, watched.timeline = False, ""
        for viewer in tuple(watched.viewers):
            self.send_away(viewer)

    def end_all(self, watched: Watched, code: CloseCode, reason: str) -> None:
        """End every connection to a conversation."""
        for viewer in tuple(watched.viewers):
            viewer.close(code, reason)

    async def _publish(self, conversation_id: UUID, data: bytes) -> None:
        try:
            await self._broker.publish(channel_of(conversation_id), data)
        except REDIS_AWAY:
            return  # the others' sweep finds it


def _tape_entries(entries: Sequence[Entry]) -> Iterator[TapeEntry]:
    news = (decode(entry.data) for entry in entries)
    return (one for one in news if isinstance(one, TapeEntry))
