"""What is old goes: idle conversations are archived and then removed, with all that belonged to them or to nobody.

Many short transactions that wait for nobody, so it can run beside the workers, be stopped at any moment and go on at
the next run. A conversation in which a reply is written or waits is left alone.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from parley.agents import privacy as of_agents
from parley.auth import privacy as of_auth
from parley.chat import privacy as of_chat
from parley.chat.privacy import Place, Standing
from parley.core.backoff import full_jitter
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable
from parley.core.ids import first_id_at

CONVERSATIONS_AT_ONCE = 50
MESSAGES_AT_ONCE = 1000
ROWS_AT_ONCE = 1000
PAUSE_S = 0.02  # between two transactions: people come first
TRIES = 6  # of one transaction: a deadlock that somebody else won, a failover
# What is expired says why it is refused until then; access tokens last a day at most, and clocks differ.
EXPIRED_FOR = timedelta(days=1)
NONE = UUID(int=0)
P = ParamSpec("P")
T = TypeVar("T")
Find = Callable[[AsyncSession, Place | None, datetime, int], Awaitable[Sequence[Standing]]]
Handle = Callable[[Sequence[Standing], datetime], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ages:
    """After how long; None: never."""

    archive_after: timedelta | None
    delete_after: timedelta | None
    deleted_after: timedelta
    """After which nothing tells any more that a deleted conversation was."""
    audit_after: timedelta | None


class Retention:
    """One run. `counts` grows while it runs; of a dry run it says what would be done."""

    def __init__(self, database: Database, clock: Clock, *, is_dry: bool) -> None:
        self._database = database
        self._clock = clock
        self._is_dry = is_dry
        self._counted = set[UUID]()
        """Of a dry run: one can be both idle and deleted."""
        self.counts = Counter[str]()

    async def run(self, ages: Ages) -> None:
        """Do all of it once."""
        now = self._clock.now()
        if ages.delete_after is not None:
            await self._walk(of_chat.list_idle, now - ages.delete_after, self._remove)
        await self._walk(of_chat.list_deleted, now - ages.deleted_after, self._remove)
        if ages.archive_after is not None:
            await self._walk(of_chat.list_idle, now - ages.archive_after, self._archive)
        await self._remove_expired(now - EXPIRED_FOR)
        await self._remove_nobodies()
        if ages.audit_after is not None:
            await self._remove_audit(now - ages.audit_after)
        await self._forget_strays()

    async def _walk(self, find: Find, before: datetime, handle: Handle) -> None:
        place: Place | None = None
        while page := await self._in_one(find, place, before, CONVERSATIONS_AT_ONCE):
            await handle(page, before)
            place = page[-1].place

    async def _archive(self, page: Sequence[Standing], before: datetime) -> None:
        async def archive(db: AsyncSession) -> int:
            ids = [one.place[1] for one in page if not one.is_archived and not one.is_deleted]
            if self._is_dry:
                return len(set(ids) - await of_chat.list_live_among(db, ids))
            return await of_chat.archive(db, await of_chat.lock_quiet(db, ids, before))

        self.counts["conversations_archived"] += await self._in_one(archive)

    async def _remove(self, page: Sequence[Standing], before: datetime) -> None:
        """Remove these, a bounded number of messages at a time."""
        ids = [one.place[1] for one in page]

        async def remove(db: AsyncSession) -> tuple[bool, Counter[str]]:
            quiet = await of_chat.lock_quiet(db, ids, before)
            removed = await of_chat.remove(db, quiet, MESSAGES_AT_ONCE)
            counts = Counter(messages=removed.messages, conversations_deleted=len(removed.conversations))
            counts.update(await of_agents.forget_conversations(db, removed.conversations))
            return bool(quiet) and not removed.conversations, counts

        if self._is_dry:
            new = [id_ for id_ in ids if id_ not in self._counted]
            self._counted.update(new)
            self.counts.update(await self._in_one(of_chat.count, new))
            return
        is_more = True
        while is_more:
            is_more, counts = await self._in_one(remove)
            self.counts.update(counts)

    async def _remove_expired(self, before: datetime) -> None:
        async def sessions(db: AsyncSession, after: UUID) -> tuple[UUID | None, int]:
            return await of_auth.remove_old_sessions(db, after, before, ROWS_AT_ONCE, is_dry=self._is_dry)

        async def tokens(db: AsyncSession, after: bytes) -> tuple[bytes | None, int]:
            return await of_auth.remove_old_tokens(db, after, before, ROWS_AT_ONCE, is_dry=self._is_dry)

        await self._stretches("sessions", NONE, sessions)
        await self._stretches("refresh_tokens", b"", tokens)

    async def _remove_nobodies(self) -> None:
        async def remove(db: AsyncSession, after: UUID) -> tuple[UUID | None, int]:
            place, nobodies = await of_auth.list_nobodies(db, after, ROWS_AT_ONCE)
            alone = list(set(nobodies) - await of_chat.list_with_people(db, nobodies)) if nobodies else []
            if not alone or self._is_dry:
                return place, len(alone)
            return place, await of_auth.remove_nobodies(db, alone)

        await self._stretches("people_without_anything", NONE, remove)

    async def _remove_audit(self, before: datetime) -> None:
        oldest_kept = first_id_at(before)
        if self._is_dry:
            self.counts["audit_entries"] += await self._in_one(of_auth.count_old_audit, oldest_kept)
            return
        while gone := await self._in_one(of_auth.remove_old_audit, oldest_kept, ROWS_AT_ONCE):
            self.counts["audit_entries"] += gone

    async def _forget_strays(self) -> None:
        async def forget(db: AsyncSession, after: UUID) -> tuple[UUID | None, int]:
            return await of_agents.forget_strays(db, after, ROWS_AT_ONCE, is_dry=self._is_dry)

        await self._stretches("stray_model_calls", NONE, forget)

    async def _stretches(
        self, name: str, start: T, work: Callable[[AsyncSession, T], Awaitable[tuple[T | None, int]]]
    ) -> None:
        place: T | None = start
        while place is not None:
            place, found = await self._in_one(work, place)
            self.counts[name] += found

    async def _in_one(
        self, work: Callable[Concatenate[AsyncSession, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do it in one transaction; what the database could not do now is tried again."""
        for failures in range(1, TRIES + 1):
            try:
                async with self._database.transaction() as db:
                    done = await work(db, *args, **kwargs)
            except DatabaseUnavailable:
                if failures == TRIES:
                    raise
                await self._clock.sleep(full_jitter(failures, base_s=0.1, cap_s=2.0, random=1.0))
            else:
                await self._clock.sleep(PAUSE_S)
                return done
        raise AssertionError  # the last failure is raised above
