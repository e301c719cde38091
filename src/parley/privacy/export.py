"""Everything that is held about a person, as one JSON document in pieces: however much there is, little is in memory.

Left out on purpose: passwords and tokens in any form, what tools told the model behind the scenes, and the counters in
Redis that end by themselves within two days.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

import orjson
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from parley.agents import privacy as of_agents
from parley.auth import privacy as of_auth
from parley.auth.schemas import Identity
from parley.chat import privacy as of_chat
from parley.core import audit
from parley.core.clock import Clock
from parley.core.database import Database
from parley.privacy.errors import PersonNotFound

FORMAT = "parley-export-1"
ROWS_AT_ONCE = 200
MESSAGES_AT_ONCE = 50  # of up to 256 KiB each
P = ParamSpec("P")
T = TypeVar("T")
Rows = AsyncIterator[RowMapping]


class Export:
    """Reads what is held."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def find_id(self, email: str) -> UUID:
        """Return whose address this is."""
        user_id = await self._read(of_auth.find_id, email)
        if user_id is None:
            raise PersonNotFound(f"There is no account {email}.")
        return user_id

    async def read(self, user_id: UUID, by: Identity | None = None) -> AsyncIterator[bytes]:
        """Return the document in pieces; raise PersonNotFound before the first. That it was read is noted."""
        account = await self._begin(user_id, by)
        if account is None:
            raise PersonNotFound
        return self._pieces(user_id, account)

    async def _begin(self, user_id: UUID, by: Identity | None) -> RowMapping | None:
        async with self._database.transaction() as db:
            account = await of_auth.read_account(db, user_id)
            if account is not None:
                actor_id, role = (by.user_id, by.role) if by is not None else (None, None)
                audit.record(db, "user_exported", actor_id=actor_id, actor_role=role, subject_id=user_id)
        return account

    async def _pieces(self, user_id: UUID, account: RowMapping) -> AsyncIterator[bytes]:
        told = {"format": FORMAT, "exported_at": self._clock.now(), "account": dict(account)}
        yield orjson.dumps(told, default=_plain)[:-1]
        sections: Mapping[str, Rows] = {
            "sessions": self._all(of_auth.list_sessions, user_id),
            "conversations": self._paged(of_chat.list_own, user_id),
            "messages": self._messages(user_id),
            "messages_elsewhere": self._paged(of_chat.list_said_elsewhere, user_id),
            "invitations": self._all(of_chat.list_invitations, user_id),
            "summaries": self._summaries(user_id),
            "model_calls": self._paged(of_agents.list_calls, user_id),
            "agent_versions": self._all(of_agents.list_versions, user_id),
            "audit_entries": self._paged(of_auth.list_audit, user_id),
        }
        for name, rows in sections.items():
            yield f',\n"{name}":['.encode()
            comma = b"\n"
            async for row in rows:
                yield comma + orjson.dumps(dict(row), default=_plain)
                comma = b",\n"
            yield b"]"
        yield b"}\n"

    async def _messages(self, user_id: UUID) -> Rows:
        async for conversation in self._paged(of_chat.list_own, user_id):
            seq = 0
            while page := await self._read(of_chat.list_messages, conversation["id"], seq, MESSAGES_AT_ONCE):
                for row in page:
                    yield row
                seq = page[-1]["seq"]

    async def _summaries(self, user_id: UUID) -> Rows:
        async for conversation in self._paged(of_chat.list_own, user_id):
            async for row in self._all(of_agents.list_summaries, [conversation["id"]]):
                yield row

    async def _paged(
        self, find: Callable[[AsyncSession, UUID, UUID | None, int], Awaitable[Sequence[RowMapping]]], user_id: UUID
    ) -> Rows:
        after: UUID | None = None
        while page := await self._read(find, user_id, after, ROWS_AT_ONCE):
            for row in page:
                yield row
            after = page[-1]["id"]

    async def _all(self, find: Callable[[AsyncSession, Any], Awaitable[Sequence[RowMapping]]], what: object) -> Rows:
        for row in await self._read(find, what):
            yield row

    async def _read(
        self, find: Callable[Concatenate[AsyncSession, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Read a stretch: no transaction stays open while somebody takes what was read."""
        async with self._database.transaction() as db:
            return await find(db, *args, **kwargs)


def _plain(value: object) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError
