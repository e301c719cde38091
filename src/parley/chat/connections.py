"""The ConnectionManager: a hub for each conversation that is watched here, and whoever watches it.

First in subscribes, last out leaves a while later. News come from this worker's own commits and tapes, and from Redis
as hints; what a hub misses is read. Nobody here waits for a viewer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import random
from uuid import UUID

from parley.auth.schemas import Identity
from parley.chat import protocol
from parley.chat.access import record_opening
from parley.chat.changes import Change
from parley.chat.connection import TOO_SLOW, Viewer
from parley.chat.cursor import Position, decode_cursor
from parley.chat.delivery import Delivery
from parley.chat.errors import ConversationNotFound
from parley.chat.hub import Frame, Hub, Missing
from parley.chat.metrics import ChatMetrics
from parley.chat.missed import Missed
from parley.chat.protocol import CloseCode
from parley.chat.reading import Standing, read_standing
from parley.chat.rows import conversation_change
from parley.chat.settings import ChatSettings
from parley.chat.tape import Tape
from parley.chat.watched import Watched
from parley.chat.wire import (
    EphemeralNews,
    RowNews,
    TapeEntry,
    channel_of,
    decode,
    encode_ephemeral,
    encode_rows,
    is_from,
)
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.fanout.broker import Broker
from parley.core.fanout.log import TapeLog
from parley.core.redis import REDIS_AWAY
from parley.core.tasks import Tasks

GOODBYES_PER_S = 200  # about half of what a worker can take in
BACK_WITHIN_MS = 2000  # a successor is there already


@dataclass(frozen=True, slots=True)
class Opening:
    """A place in a conversation, taken; what its viewer is given first."""

    watched: Watched
    ready: bytes
    frames: Sequence[Frame]
    position: Position
    user_name: str
    timeline: str
    """Of the database it was read from."""
    began_at: float
    """When somebody came for it, by the clock that never jumps."""


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
        self._tasks = tasks
        self._settings = settings
        self._clock = clock
        self._boot_id = boot_id
        self.watched: dict[UUID, Watched] = {}
        self._own: dict[UUID, Tape] = {}
        self._delivery = Delivery()
        self._has_said_goodbye = False
        self.missed = Missed(
            database=database,
            tape_log=tape_log,
            delivery=self._delivery,
            own=self._own,
            tasks=tasks,
            clock=clock,
            metrics=metrics,
        )

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
                await self.missed.read_logs([(watched, position.reply)])
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
        viewer.position = Position(watched.hub.rev) if is_lost else opening.position
        watched.viewers.add(viewer)
        first = [viewer.frame(body) for body in (opening.ready, *answers)]
        if viewer.until is not None and viewer.until in {frame.ends for frame in opening.frames}:
            viewer.reach()
        viewer.go_live(watched, [*first, *watched.framed(viewer, () if is_lost else opening.frames)])
        if is_lost or (self._has_said_goodbye and not viewer.reached):
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
        """Send away whoever is still there, and whoever is still being let in."""
        self._has_said_goodbye = True
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
            watched.hint(body, but)
        self._tasks.spawn(
            "hint to other workers", self._publish(conversation_id, encode_ephemeral(self._boot_id, body))
        )

    def attach(self, conversation_id: UUID, tape: Tape) -> None:
        """Share the tape of a reply that this worker writes."""
        self._own[tape.message_id] = tape
        watched = self.watched.get(conversation_id)
        if watched is not None:
            watched.hub.attach(tape)
            self._delivery.touch(watched)

    def detach(self, tape: Tape) -> None:
        """This worker writes it no longer."""
        if self._own.get(tape.message_id) is tape:
            del self._own[tape.message_id]

    def grown(self, conversation_id: UUID) -> None:
        """A tape that is written here has grown."""
        watched = self.watched.get(conversation_id)
        if watched is not None:
            self._delivery.touch(watched)

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
        watched = self.watched[conversation_id] = Watched(Hub(conversation_id), subscribing, self.missed.read_for)
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
        early = watched.begin(standing, self._database.timeline)
        self.missed.attach_own(watched)
        for news in early:
            if isinstance(news, bytes):
                self._hear(watched, news)
            else:
                self._take_rows(watched, news)
        if self.missed.is_written_elsewhere(standing.live):
            self.missed.read_soon(watched)

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

    def _note_resume(self, standing: Standing, position: Position | None) -> None:
        if position is None or standing.changes is None:
            self._metrics.resumes.labels("reset").inc()
        else:
            self._metrics.resumes.labels("continued").inc()
            self._metrics.resume_gap.observe(standing.conversation.rev - position.rev)

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
                self.missed.read_soon(watched)
            self._delivery.touch(watched)
        elif isinstance(news, EphemeralNews):
            watched.hint(news.body)

    def _take_rows(self, watched: Watched, changes: Sequence[Change]) -> None:
        if not watched.is_loaded:
            watched.early.append(changes)
            return
        if watched.hub.take_changes(changes) is Missing.ROWS or watched.hub.unsettled():
            self.missed.read_soon(watched)
        if watched.hub.torn:
            self.missed.note_torn(watched.hub)
        self.missed.attach_own(watched)
        self._delivery.touch(watched)

    def start_over(self, watched: Watched) -> None:
        """The database goes on from another moment than the hub knows: whoever comes back gets a `reset`."""
        watched.start_over()
        for viewer in tuple(watched.viewers):
            self.send_away(viewer)

    async def _publish(self, conversation_id: UUID, data: bytes) -> None:
        try:
            await self._broker.publish(channel_of(conversation_id), data)
        except REDIS_AWAY:
            return  # the others' sweep finds it
