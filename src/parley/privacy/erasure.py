"""Erasing a person: nothing of them stays in PostgreSQL and Redis, and what they opened is closed within seconds.

Many short transactions, so it can be stopped and repeated at any moment: first nobody can come back as them, then what
is being written ends, then everything is removed, their account last.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from parley.agents import privacy as of_agents
from parley.auth import privacy as of_auth
from parley.auth.privacy import ERASED
from parley.auth.revocation import Revocations
from parley.auth.schemas import Identity
from parley.chat import privacy as of_chat
from parley.core import audit
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.redis import REDIS_AWAY
from parley.privacy import shared
from parley.privacy.errors import PersonNotFound, SharedNotErased

# After the last worker has heard that the sessions ended: its beat ends replies that are no longer its own, and their
# calls are booked, answers kept and budgets settled.
WIND_DOWN_S = 2.0
CONVERSATIONS_AT_ONCE = 20
MESSAGES_AT_ONCE = 1000
P = ParamSpec("P")
T = TypeVar("T")


class Erasure:
    """Takes people out."""

    def __init__(
        self, *, database: Database, redis: Redis, revocations: Revocations, revocation_poll_s: float, clock: Clock
    ) -> None:
        self._database = database
        self._redis = redis
        self._revocations = revocations
        self._settle_s = revocation_poll_s + WIND_DOWN_S
        self._clock = clock

    async def erase(self, user_id: UUID, by: Identity | None = None) -> Mapping[str, int]:
        """Erase somebody and say how much there was; for one who was erased before, what was left behind."""
        await self.check(user_id)
        ended = await self._in_one(of_auth.close_account, user_id)
        await self._revocations.announce(ended, of_auth.WHY_ENDED)
        await self._end_live(user_id)
        await self._clock.sleep(self._settle_s)
        if await self._end_live(user_id):  # asked in the moment before a worker heard
            await self._clock.sleep(WIND_DOWN_S)
        counts, conversation_ids = Counter[str](), set[UUID]()
        await self._remove_own(user_id, counts, conversation_ids)
        for conversation_id in await self._in_one(of_chat.list_touched_ids, user_id):
            conversation_ids.add(conversation_id)
            counts["messages_elsewhere"] += await self._in_one(_erase_in, conversation_id, user_id)
        await self._remove_account(user_id, counts, by)
        await self._forget_shared(user_id, conversation_ids, counts)
        return dict(counts)

    async def check(self, user_id: UUID) -> None:
        """Raise PersonNotFound for somebody who never was."""
        if not await self._in_one(of_auth.is_known, user_id):
            raise PersonNotFound

    async def _end_live(self, user_id: UUID) -> int:
        """Stop what is being written for somebody; whose it is reads that within half a second."""
        live = await self._in_one(of_chat.list_live_of, user_id)
        for conversation_id, is_own in live:
            if is_own:
                await self._in_one(of_chat.end_own, conversation_id)
            else:
                await self._in_one(of_chat.end_asked, conversation_id, user_id)
        return len(live)

    async def _remove_own(self, user_id: UUID, counts: Counter[str], conversation_ids: set[UUID]) -> None:
        async def remove(db: AsyncSession) -> of_chat.Removed | None:
            ids = await of_chat.lock_own(db, user_id, CONVERSATIONS_AT_ONCE)
            if not ids:
                return None
            removed = await of_chat.remove(db, ids, MESSAGES_AT_ONCE)
            counts.update(await of_agents.forget_conversations(db, removed.conversations))
            return removed

        while (removed := await self._in_one(remove)) is not None:
            counts.update(messages=removed.messages, conversations=len(removed.conversations))
            conversation_ids.update(removed.conversations)

    async def _remove_account(self, user_id: UUID, counts: Counter[str], by: Identity | None) -> None:
        async def remove(db: AsyncSession) -> None:
            await of_chat.forget_inviter(db, user_id)
            counts.update(await of_agents.forget_person(db, user_id))
            counts.update(await of_auth.remove_account(db, user_id))
            if counts["accounts"]:
                # The one trace: that it was done. The id names nobody any more.
                actor_id, role = (by.user_id, by.role) if by is not None else (None, None)
                audit.record(db, ERASED, actor_id=actor_id, actor_role=role, subject_id=user_id, detail=counts)

        await self._in_one(remove)

    async def _forget_shared(self, user_id: UUID, conversation_ids: set[UUID], counts: Counter[str]) -> None:
        try:
            counts["redis_keys"] = await shared.forget(self._redis, user_id, conversation_ids)
            is_rewritten = await shared.rewrite_file(self._redis, self._clock)
        except REDIS_AWAY as error:
            raise SharedNotErased from error
        counts["redis_files_to_rewrite"] = not is_rewritten

    async def _in_one(
        self, work: Callable[Concatenate[AsyncSession, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async with self._database.transaction() as db:
            return await work(db, *args, **kwargs)


async def _erase_in(db: AsyncSession, conversation_id: UUID, user_id: UUID) -> int:
    erased = await of_chat.erase_in(db, conversation_id, user_id)
    # It may repeat what they said; it is made again when it is needed.
    await of_agents.drop_summaries(db, [conversation_id])
    return erased
