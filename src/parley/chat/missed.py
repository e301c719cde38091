"""Reads what was missed: rows from the database, tapes from their logs; for a hub, or for one viewer far behind it."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from uuid import UUID

import structlog

from parley.chat import repository
from parley.chat.connection import Payload, Viewer
from parley.chat.delivery import Delivery
from parley.chat.hub import Hub
from parley.chat.metrics import ChatMetrics
from parley.chat.protocol import CloseCode
from parley.chat.reading import read_standing
from parley.chat.rows import in_order
from parley.chat.tape import Tape
from parley.chat.watched import Watched
from parley.chat.wire import TapeEntry, decode, log_key_of
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable
from parley.core.fanout.log import Entry, TapeLog
from parley.core.tasks import Tasks

log = structlog.get_logger(__name__)

SIDE_BY_SIDE = 4  # of the pool's connections; questions need some as well
TAPE_WAIT_S = 1.0  # for the rest of an ended tape, DESIGN 5
TEXT_WAIT_S = 5.0  # for a Redis that does not answer, where nobody else has the text
TAPE_POLL_S = 0.1


class Missed:
    """Reading on behalf of hubs, and of viewers who are there already."""

    def __init__(
        self,
        *,
        database: Database,
        tape_log: TapeLog,
        delivery: Delivery,
        own: Mapping[UUID, Tape],
        tasks: Tasks,
        clock: Clock,
        metrics: ChatMetrics,
    ) -> None:
        self._database = database
        self._log = tape_log
        self._delivery = delivery
        self._own = own
        """The tapes that are written here: nobody reads those."""
        self._tasks = tasks
        self._clock = clock
        self._metrics = metrics
        self._turns = asyncio.Semaphore(SIDE_BY_SIDE)

    def read_soon(self, watched: Watched) -> None:
        """Read the rows and tapes that a hub lacks; one read at a time, and one more for whoever asks meanwhile."""
        if not watched.is_loaded:
            return
        if watched.is_reading:
            watched.reads_again = True
            return
        watched.is_reading = True
        self._tasks.spawn("read what is missing", self._read(watched))

    async def read_live_tapes(self, every: Sequence[Watched]) -> None:
        """Read the tapes that are written elsewhere from their ends, all in one go."""
        live = [(one, one.hub.live) for one in every if self.is_written_elsewhere(one.hub.live)]
        await self.read_logs([(one, reply) for one, reply in live if reply is not None])

    async def read_logs(self, reads: Sequence[tuple[Watched, UUID]]) -> bool:
        """Take what the logs hold behind the copies here, in one go; False where Redis does not say."""
        if not reads:
            return True
        keys = [(log_key_of(one.conversation_id, reply), *one.hub.tape_end(reply)) for one, reply in reads]
        found = await self._log.read(keys)
        for (one, reply), entries in zip(reads, found, strict=True):
            if entries:
                one.hub.take_log(reply, _tape_entries(entries))
                self._delivery.touch(one)
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

    async def read_for(self, watched: Watched, viewer: Viewer) -> Sequence[Payload]:
        """Read what a viewer has missed and the hub no longer has, and move the viewer behind it."""
        position = viewer.position
        standing = await read_standing(self._database, viewer.identity, watched.conversation_id, position, "behind")
        frames, viewer.position = standing.frames(position, watched.hub.find_tape)
        if viewer.until is not None and (
            viewer.until in {frame.ends for frame in frames}
            or (standing.changes is None and await self._has_ended(viewer.until, viewer.position.rev))
        ):
            viewer.reach()
        return watched.framed(viewer, frames)

    def attach_own(self, watched: Watched) -> None:
        """Show the live reply from its writer's tape where that is here."""
        own = self._own.get(watched.hub.live) if watched.hub.live else None
        if own is not None:
            watched.hub.attach(own)

    def is_written_elsewhere(self, reply: UUID | None) -> bool:
        """Whether there is a live reply that is not written here."""
        return reply is not None and reply not in self._own

    def note_torn(self, hub: Hub) -> None:
        """Tell of texts that are not what their ends say: viewers find it too, and their clients say so."""
        torn, hub.torn = hub.torn, []
        for message_id in torn:
            self._metrics.mismatches.inc()
            log.error("reply_text_differs", conversation_id=str(hub.conversation_id), message_id=str(message_id))

    async def _read(self, watched: Watched) -> None:
        try:
            while True:
                watched.reads_again = False
                with suppress(DatabaseUnavailable):  # the sweep comes again, and tapes go on meanwhile
                    async with self._turns:
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
                watched.end_all(CloseCode.GONE, "conversation_deleted")
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
        self.attach_own(watched)
        self._delivery.touch(watched)

    async def _read_tapes(self, watched: Watched) -> None:
        """Read the live tape from its end, and those of ended replies until they are whole or time is up."""
        hub = watched.hub
        await self.read_live_tapes([watched])
        latest = self._clock.monotonic() + TAPE_WAIT_S
        while missing := self._unsettled(hub):
            is_known = await self.read_logs([(watched, message_id) for message_id in missing])
            if not is_known or self._clock.monotonic() > latest:
                for message_id in hub.unsettled():
                    hub.give_up(message_id)
                self._delivery.touch(watched)
                return
            if hub.unsettled():
                await self._clock.sleep(TAPE_POLL_S)

    def _unsettled(self, hub: Hub) -> list[UUID]:
        missing = hub.unsettled()
        if hub.torn:
            self.note_torn(hub)
        return missing

    async def _has_ended(self, message_id: UUID, by_rev: int) -> bool:
        """Return whether a `reset` of that rev held the end of a reply."""
        async with self._database.transaction() as db:
            message = await repository.find_message(db, message_id)
        return message is None or (message.ended_rev is not None and message.ended_rev <= by_rev)


def _tape_entries(entries: Sequence[Entry]) -> Iterator[TapeEntry]:
    news = (decode(entry.data) for entry in entries)
    return (one for one in news if isinstance(one, TapeEntry))
