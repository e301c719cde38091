"""The sites that are switched on, as this worker knows them: which key belongs to which pages.

Read every few seconds, at once when another worker tells of a change, and before somebody is refused; a request that is
let in only looks here. Their origins are put into the allow-list for CORS, sockets and tickets. Secrets are not held:
they stay in the database.
"""

import asyncio
from collections.abc import Mapping

import structlog

from parley.auth import sites_repository
from parley.auth.errors import OriginRefused, SiteRefused
from parley.auth.settings import AuthSettings
from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable
from parley.core.fanout.broker import Broker
from parley.core.origins import Origins
from parley.core.redis import REDIS_AWAY

log = structlog.get_logger(__name__)

CHANNEL = "parley:sites"


class Sites:
    """This worker's list of sites."""

    def __init__(self, database: Database, broker: Broker, origins: Origins, settings: AuthSettings) -> None:
        self._database = database
        self._broker = broker
        self._origins = origins
        self._poll_s = settings.site_poll_s
        self._known: Mapping[str, frozenset[str]] = {}
        self._begun = self._taken = 0
        self._is_blind = False
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()
        broker.listen(CHANNEL, self._hear)
        broker.on_gap(self._changed.set)

    async def admit(self, key: str, origin: str | None) -> None:
        """Let a page of this site pass; raise SiteRefused, OriginRefused or DatabaseUnavailable."""
        try:
            self._check(key, origin)
        except (SiteRefused, OriginRefused):
            await self.read()  # it may have been made elsewhere a moment ago
            self._check(key, origin)

    def _check(self, key: str, origin: str | None) -> None:
        pages = self._known.get(key)
        if pages is None:
            raise SiteRefused
        if origin is None or origin not in pages:
            raise OriginRefused

    async def announce(self) -> None:
        """Read again here and now, and tell the others; call it after the commit."""
        try:
            await self.read()
        except DatabaseUnavailable:
            self._changed.set()
        try:
            await self._broker.publish(CHANNEL, b"")
        except REDIS_AWAY:
            log.warning("sites_not_announced")  # the others read it within seconds

    async def watch(self) -> None:
        """Read the sites, again and again."""
        while True:
            self._changed.clear()
            try:
                await self.read()
            except DatabaseUnavailable:
                if not self._is_blind:
                    log.warning("sites_not_read")
                self._is_blind = True
            else:
                self._is_blind = False
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def read(self) -> None:
        """Take what the database holds now; raise DatabaseUnavailable."""
        before = self._begun
        # One at a time: what was read first must not be put over what was read later. It serves all who waited for it.
        async with self._reading:
            if self._taken > before:
                return
            self._begun += 1
            async with self._database.transaction() as db:
                rows = await sites_repository.list_enabled(db)
            self._known = {key: frozenset(origins) for key, origins in rows}
            self._taken = self._begun
            self._origins.put_sites(origin for origins in self._known.values() for origin in origins)

    def _hear(self, _: bytes) -> None:
        self._changed.set()
