"""The one repair: what every hub should know, read in one statement, and live tapes from their ends.

Also ends connections whose right to be here has gone, and keeps silent streams alive.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import structlog
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from parley.chat.access import is_operator
from parley.chat.connection import Viewer
from parley.chat.connections import ConnectionManager
from parley.chat.protocol import CloseCode
from parley.chat.settings import ChatSettings
from parley.chat.watched import Watched
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)

_STANDINGS = text("""
    SELECT c.id, c.rev, c.deleted_at IS NOT NULL, m.id, m.attempt
    FROM conversations c LEFT JOIN messages m
    ON m.conversation_id = c.id AND m.status IN ('streaming', 'stopping')
    WHERE c.id = ANY(:ids)
""").bindparams(bindparam("ids", type_=ARRAY(Uuid())))
_MEMBERS = text("SELECT conversation_id, user_id FROM participants WHERE conversation_id = ANY(:ids)").bindparams(
    bindparam("ids", type_=ARRAY(Uuid()))
)

IsEnded = Callable[[UUID], bool]


class Sweep:
    """Looks at everything that is watched on this worker."""

    def __init__(
        self,
        database: Database,
        connections: ConnectionManager,
        *,
        settings: ChatSettings,
        clock: Clock,
        is_session_ended: IsEnded,
        hears: Callable[[], bool],
    ) -> None:
        self._database = database
        self._connections = connections
        self._settings = settings
        self._clock = clock
        self._is_session_ended = is_session_ended
        self._hears = hears
        self._gap = asyncio.Event()

    def look_now(self) -> None:
        """Something may have been lost on the way."""
        self._gap.set()

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            began = self._clock.monotonic()
            self._mind_viewers()
            self._gap.clear()
            with suppress(DatabaseUnavailable):  # rows stand still meanwhile
                await self._read()
            await self._connections.missed.read_live_tapes(list(self._connections.watched.values()))
            with suppress(TimeoutError):
                # Waiting for a Redis that is away does not put off the next look.
                looked_s = self._clock.monotonic() - began
                # While nothing is heard from others, this look is all their viewers have.
                period_s = self._settings.sweep_s if self._hears() else self._settings.sweep_s / 4
                async with asyncio.timeout(max(period_s - looked_s, period_s / 4)):
                    await self._gap.wait()

    async def _read(self) -> None:
        watched = {one.conversation_id: one for one in self._connections.watched.values() if one.is_loaded}
        if not watched:
            return
        # Who comes while this is read was asked for at the door.
        guests = [(one, viewer) for one in watched.values() for viewer in one.viewers if _needs_invitation(one, viewer)]
        visited = list({one.conversation_id for one, _ in guests})
        async with self._database.transaction() as db:
            standings = (await db.execute(_STANDINGS, {"ids": list(watched)})).all()
            members = {tuple(row) for row in await db.execute(_MEMBERS, {"ids": visited})} if visited else set()
        for conversation_id, rev, is_deleted, live, attempt in standings:
            one = watched.pop(conversation_id)
            if is_deleted:
                one.end_all(CloseCode.GONE, "conversation_deleted")
            elif one.timeline != self._database.timeline:
                self._connections.start_over(one)
            elif rev > one.hub.rev or live != one.hub.live or self._lacks_attempt(one, live, attempt):
                self._connections.missed.read_soon(one)
        for gone in watched.values():
            gone.end_all(CloseCode.GONE, "conversation_deleted")
        # Last: what is deleted has no members either, and says so itself.
        for one, viewer in guests:
            if _needs_invitation(one, viewer) and (one.conversation_id, viewer.identity.user_id) not in members:
                viewer.close(CloseCode.FORBIDDEN, "no_longer_invited")

    def _lacks_attempt(self, one: Watched, live: UUID | None, attempt: int | None) -> bool:
        return live is not None and one.hub.tape_end(live)[0] < (attempt or 0)

    def _mind_viewers(self) -> None:
        now, wall = time.monotonic(), self._clock.now().timestamp()
        for one in list(self._connections.watched.values()):
            for viewer in tuple(one.viewers):
                if viewer.identity.expires_at <= wall:
                    viewer.close(CloseCode.TOKEN_STALE, "token_expired")
                elif self._is_session_ended(viewer.identity.session_id):
                    viewer.close(CloseCode.TOKEN_STALE, "token_revoked")
                else:
                    viewer.keep_alive(now, self._settings.comment_s)


def _needs_invitation(watched: Watched, viewer: Viewer) -> bool:
    return viewer.identity.user_id != watched.owner_id and not is_operator(viewer.identity)
