"""Sessions that ended before their access tokens did.

Every worker holds the set of those ended lately: told at once by pub/sub, and read again every few seconds because a
hint may be lost. An access token names its session, so looking it up costs one dictionary access.
"""

from datetime import timedelta
from uuid import UUID

import orjson
import structlog

from parley.auth import repository
from parley.auth.settings import AuthSettings
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable
from parley.core.fanout.broker import Broker
from parley.core.redis import REDIS_AWAY

log = structlog.get_logger(__name__)

CHANNEL = "parley:revoked"
MARGIN_S = 60  # a token may be signed just before its session ends, and clocks differ


class Revocations:
    """This worker's set of ended sessions, each with the reason."""

    def __init__(self, database: Database, broker: Broker, settings: AuthSettings, clock: Clock) -> None:
        self._database = database
        self._broker = broker
        self._clock = clock
        self._poll_s = settings.revocation_poll_s
        self._keep_s = settings.access_ttl_s + MARGIN_S
        self._ended: dict[UUID, tuple[str, float]] = {}
        self._is_blind = False
        broker.listen(CHANNEL, self._hear)

    def reason(self, session_id: UUID) -> str | None:
        """Return why a session has ended, None while it has not."""
        ended = self._ended.get(session_id)
        return ended[0] if ended else None

    async def announce(self, session_ids: list[UUID], reason: str) -> None:
        """Hold these for ended here and now, and tell the others; call it after the commit."""
        self._add([(session_id, reason) for session_id in session_ids])
        if not session_ids:
            return
        try:
            await self._broker.publish(CHANNEL, orjson.dumps([[str(s) for s in session_ids], reason]))
        except REDIS_AWAY:
            log.warning("revocation_not_announced", sessions=len(session_ids))  # the others read it within seconds

    async def watch(self) -> None:
        """Read what ended, again and again."""
        while True:
            try:
                async with self._database.transaction() as db:
                    rows = await repository.list_revoked(db, timedelta(seconds=self._keep_s))
            except DatabaseUnavailable:
                if not self._is_blind:
                    log.warning("revocations_not_read")
                self._is_blind = True
            else:
                self._is_blind = False
                self._forget_old()
                self._add([(session_id, reason or "revoked") for session_id, reason in rows])
            await self._clock.sleep(self._poll_s)

    def _hear(self, data: bytes) -> None:
        session_ids, reason = orjson.loads(data)
        self._add([(UUID(session_id), reason) for session_id in session_ids])

    def _add(self, ended: list[tuple[UUID, str]]) -> None:
        now = self._clock.monotonic()
        for session_id, reason in ended:
            self._ended.setdefault(session_id, (reason, now))

    def _forget_old(self) -> None:
        oldest = self._clock.monotonic() - self._keep_s
        self._ended = {session_id: ended for session_id, ended in self._ended.items() if ended[1] > oldest}
