"""What a worker knows of the conversation and whom it tells: `connections` and `missed`, with waits by the schedule."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from parley.chat.changes import Change
from parley.chat.cursor import Position, cursor_prefix, decode_cursor, encode_cursor
from parley.chat.hub import Frame, Hub, Missing
from parley.chat.missed import TAPE_POLL_S, TAPE_WAIT_S
from parley.chat.protocol import ws_frame
from parley.chat.reading import Standing
from parley.chat.tape import Tape
from parley.chat.wire import RowNews, TapeEntry, decode, encode_rows, is_from, log_key_of
from parley.core.fanout.log import Entry

if TYPE_CHECKING:
    from tests.chat.model.viewer import Client
    from tests.chat.model.worker import Worker
    from tests.chat.model.world import World

START = Position()
LOG_AT_ONCE = 4  # entries a read of the log answers
SUBSCRIBE_WAIT_S = 0.5


@dataclass(slots=True, eq=False)
class Connection:
    """A viewer, and the wire to its client."""

    client: "Client"
    position: Position = START
    is_open: bool = True
    is_busy: bool = True
    arrives_at: float = 0.0


class Watching:
    """The hub of the conversation on one worker, and its viewers."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._world: World = worker.world
        self.conversation_id = worker.world.store.talk.id
        self.connections: list[Connection] = []
        self._tapes: dict[UUID, Tape] = {}
        self._forget()

    def _forget(self) -> None:
        self.hub: Hub | None = None
        self._is_loaded = False
        self._is_reading = False
        self._reads_again = False
        self._is_dirty = False
        self._early: list[bytes | Sequence[Change]] = []
        self._world.channel.sinks.pop(self._worker, None)

    # Coming and going.

    def open(self, connection: Connection, cursor: str | None, since: Position | None) -> None:
        """Let a viewer in; see ConnectionManager.open."""
        position, reason = since, "joined"
        if cursor is not None:
            found = decode_cursor(cursor)
            position, reason = None, "other"
            is_same = found is not None and found.timeline == self._worker.timeline
            if found is not None and (is_same or not self._world.rules.compares_timelines):
                position, reason = found.position, "resumed"
        if self.hub is None:
            self.hub = Hub(self.conversation_id)
            self._worker.later(self._world.delay(), partial(self._subscribe, self.hub))
        self.connections.append(connection)
        wait_s = self._world.random.choice([0.01, SUBSCRIBE_WAIT_S])
        self._worker.later(wait_s, partial(self._stand, connection, position, reason))

    def drop_all(self) -> None:
        """Close every connection."""
        for connection in tuple(self.connections):
            connection.client.lose(connection)
        self.connections.clear()

    def _subscribe(self, hub: Hub) -> None:
        if hub is not self.hub:
            return
        if self._world.redis.is_up:
            self._world.channel.sinks[self._worker] = partial(self._hear, hub)
        else:
            self._worker.later(0.3, partial(self._subscribe, hub))

    def resubscribe(self) -> None:
        """The subscription broke: everything until its return is lost."""
        self._world.channel.sinks.pop(self._worker, None)
        if self.hub is not None:
            self._worker.later(self._world.random.uniform(0.05, 1.5), partial(self._resubscribed, self.hub))

    def _resubscribed(self, hub: Hub) -> None:
        self._subscribe(hub)
        self.read_soon()

    def _stand(self, connection: Connection, position: Position | None, reason: str) -> None:
        store, talk = self._world.store, replace(self._world.store.talk)
        live = store.live.id if store.live else None

        def read() -> Standing:
            if self._world.rules.reads_one_snapshot:
                return store.read_standing(position, reason, replace(store.talk), store.live.id if store.live else None)
            return store.read_standing(position, reason, talk, live)

        self._worker.query(read, partial(self._stood, connection, position))

    def _stood(self, connection: Connection, position: Position | None, standing: Standing | None) -> None:
        hub = self.hub
        if standing is None or hub is None or not connection.is_open:
            connection.client.lose(connection)
            self.leave(connection)
            return
        if not self._is_loaded:
            self._begin(hub, standing)
        if position is not None and position.reply is not None and hub.find_tape(position.reply) is None:
            self._read_log([position.reply], partial(self._enter, connection, position, standing))
        else:
            self._enter(connection, position, standing)

    def _enter(self, connection: Connection, position: Position | None, standing: Standing) -> None:
        if self.hub is None:
            return
        frames, connection.position = standing.frames(position, self.hub.find_tape)
        connection.client.enter(connection)
        self._send(connection, frames)

    def leave(self, connection: Connection) -> None:
        """A viewer has gone; the hub lingers."""
        connection.is_open = False
        if connection in self.connections:
            self.connections.remove(connection)
        self._worker.later(self._world.faults.linger_s, self._leave)

    def _leave(self) -> None:
        if not self.connections and self.hub is not None:
            self._forget()

    def _begin(self, hub: Hub, standing: Standing) -> None:
        self._is_loaded = True
        hub.begin(standing.conversation.rev, standing.live)
        self._attach_own(hub)
        early, self._early = self._early, []
        for news in early:
            if isinstance(news, bytes):
                self._hear(hub, news)
            else:
                self._take_rows(hub, news)
        if standing.live is not None and standing.live not in self._tapes:
            self.read_soon()

    # News.

    def tell(self, changes: Sequence[Change]) -> None:
        """Show committed changes here and elsewhere."""
        if not changes:
            return
        if self.hub is not None:
            self._take_rows(self.hub, changes)
        if self._world.redis.is_up:
            data = encode_rows(self._worker.boot_id, [change.to_news() for change in changes])
            self._world.schedule.after(self._world.delay(), partial(self._publish, self._worker.timeline, data))

    def _publish(self, timeline: str, data: bytes) -> None:
        if self._world.store.timeline == timeline:  # a restore takes longer than a message
            self._world.channel.publish(data)

    def attach(self, tape: Tape) -> None:
        """Share a tape that is written here."""
        self._tapes[tape.message_id] = tape
        if self.hub is not None:
            self.hub.attach(tape)
            self.touch()

    def detach(self, tape: Tape) -> None:
        """It is written no longer."""
        if self._tapes.get(tape.message_id) is tape:
            del self._tapes[tape.message_id]

    def _hear(self, hub: Hub, data: bytes) -> None:
        if hub is not self.hub or is_from(self._worker.boot_id, data):
            return
        if self._worker.is_paused:
            self._worker.later(0.0, partial(self._hear, hub, data))
            return
        if not self._is_loaded:
            self._early.append(data)
            return
        news = decode(data)
        if isinstance(news, RowNews):
            self._take_rows(hub, [Change.from_news(change) for change in news.changes])
        elif isinstance(news, TapeEntry):
            if hub.take_entry(news) is not Missing.NOTHING:
                self.read_soon()
            self.touch()

    def _take_rows(self, hub: Hub, changes: Sequence[Change]) -> None:
        if not self._is_loaded:
            self._early.append(changes)
            return
        if hub.take_changes(changes) is Missing.ROWS or hub.unsettled():
            self.read_soon()
        self._attach_own(hub)
        self.touch()

    def _attach_own(self, hub: Hub) -> None:
        own = self._tapes.get(hub.live) if hub.live else None
        if own is not None:
            hub.attach(own)

    # What was missed.

    def take_sweep(self, answer: tuple[int, UUID | None, int] | None) -> None:
        """Compare with what the database says."""
        if answer is None or self.hub is None:
            return
        rev, live, attempt = answer
        hub = self.hub
        is_behind = live is not None and (
            hub.live != live or live not in self._tapes or hub.tape_end(live)[0] < attempt
        )
        if rev > hub.rev or is_behind:
            self.read_soon()

    def read_soon(self) -> None:
        """Read rows and tapes; one read at a time."""
        if not self._is_loaded or self.hub is None:
            return
        if self._is_reading:
            self._reads_again = True
            return
        self._is_reading = True
        self._read(self.hub)

    def _read(self, hub: Hub) -> None:
        self._reads_again = False
        store, after, talk = self._world.store, hub.rev, replace(self._world.store.talk)

        def read() -> Any:
            live = store.live.id if store.live else None
            now = replace(store.talk) if self._world.rules.reads_one_snapshot else talk
            return (store.read_missed(after, now, live),)

        self._worker.query(read, partial(self._read_rows, hub))

    def _read_rows(self, hub: Hub, answer: Any) -> None:
        if hub is not self.hub:
            return
        (missed,) = answer or (None,)
        if missed is not None and missed.rev > hub.rev:
            if missed.changes is None:
                hub.begin(missed.rev, missed.live)
            else:
                hub.take_read(missed.changes, missed.rev)
            self._attach_own(hub)
            self.touch()
        latest = self._world.schedule.now + TAPE_WAIT_S
        if hub.live is not None and hub.live not in self._tapes:
            self._read_log([hub.live], partial(self._settle, hub, latest))
        else:
            self._settle(hub, latest)

    def _settle(self, hub: Hub, latest: float) -> None:
        if hub is not self.hub:
            return
        if missing := hub.unsettled():
            self._read_log(missing, partial(self._settled, hub, latest))
        elif self._reads_again:
            self._read(hub)
        else:
            self._is_reading = False

    def _settled(self, hub: Hub, latest: float) -> None:
        if hub.unsettled() and self._world.schedule.now <= latest:
            self._worker.later(TAPE_POLL_S, partial(self._settle, hub, latest))
            return
        for message_id in hub.unsettled():
            hub.give_up(message_id)
        self.touch()
        self._settle(hub, latest)

    def _read_log(self, message_ids: Sequence[UUID], then: Any) -> None:
        hub = self.hub
        if hub is None:
            return
        asked = [(one, log_key_of(self.conversation_id, one), *hub.tape_end(one)) for one in message_ids]
        redis = self._world.redis

        def take(answers: list[tuple[UUID, list[Entry]]] | None) -> None:
            for message_id, entries in answers or ():
                news = (decode(entry.data) for entry in entries)
                hub.take_log(message_id, (one for one in news if isinstance(one, TapeEntry)))
            self.touch()
            then()

        self._worker.redis(lambda: [(one, redis.read(key, a, n, LOG_AT_ONCE)) for one, key, a, n in asked], take)

    # Telling.

    def touch(self) -> None:
        """Serve the viewers at the end of this turn."""
        if not self._is_dirty:
            self._is_dirty = True
            self._worker.later(0.0, self._serve)

    def _serve(self) -> None:
        self._is_dirty = False
        for connection in tuple(self.connections):
            self._push(connection)

    def _push(self, connection: Connection) -> None:
        if connection.is_busy or not connection.is_open or self.hub is None:
            return
        frames = self.hub.follow(connection.position)
        if frames is None:
            connection.is_busy = True
            self._catch_up(connection)
        elif frames:
            connection.position = frames[-1].position
            self._send(connection, frames)

    def _catch_up(self, connection: Connection) -> None:
        store, position = self._world.store, connection.position
        self._worker.query(
            lambda: store.read_standing(position, "behind", replace(store.talk), store.live.id if store.live else None),
            partial(self._caught_up, connection, position),
        )

    def _caught_up(self, connection: Connection, position: Position, standing: Standing | None) -> None:
        if standing is None or self.hub is None:
            connection.client.lose(connection)
            self.leave(connection)
            return
        frames, connection.position = standing.frames(position, self.hub.find_tape)
        self._send(connection, frames)

    def _send(self, connection: Connection, frames: Sequence[Frame]) -> None:
        world = self._world
        prefix = cursor_prefix(self._worker.timeline, self.conversation_id)
        for frame in frames:
            payload = ws_frame(frame.body, encode_cursor(prefix, frame.position))
            connection.arrives_at = max(connection.arrives_at, world.schedule.now + world.delay())
            world.schedule.after(
                connection.arrives_at - world.schedule.now, partial(connection.client.take, connection, payload)
            )
        connection.is_busy = True
        slow_s = world.random.uniform(0.0, 2.0) if world.chance(world.faults.slow_viewers) else 0.0
        self._worker.later(slow_s, partial(self._sent, connection))

    def _sent(self, connection: Connection) -> None:
        connection.is_busy = False
        self._push(connection)
