"""What tests of conversations share: rows put where no route puts them, and what was handed on after a commit."""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest_asyncio
from tests.fixtures.service import Account, Service

from parley.chat.service import Committed

CONVERSATIONS = "/chat/conversations"


class Rows:
    """The tables, as a test looks at and changes them."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def fetch(self, query: str, *values: Any) -> Any:
        """Return the one value a query asks for."""
        return await self.connection.fetchval(query, *values)

    async def say(self, conversation_id: str, content: str = "Hello", *, role: str = "user", **values: Any) -> str:
        """Put a message at the end of a conversation; return its id."""
        message_id = uuid.uuid4()
        seq = await self.fetch(
            "UPDATE conversations SET last_seq = last_seq + 1, rev = rev + 1, active_at = clock_timestamp()"
            " WHERE id = $1 RETURNING last_seq",
            conversation_id,
        )
        row = {"role": role, "content": content, "seq": seq, "conversation_id": conversation_id, **values}
        names = ", ".join(row)
        await self.connection.execute(
            f"INSERT INTO messages (id, rev, {names}) SELECT '{message_id}', c.rev,"
            f" {', '.join(f'r.{name}' for name in row)} FROM conversations c,"
            " jsonb_populate_record(NULL::messages, $1::jsonb) r WHERE c.id = r.conversation_id",
            json.dumps(row, default=str),
        )
        return str(message_id)


@pytest_asyncio.fixture
async def rows(database_url: str) -> AsyncIterator[Rows]:
    """This test's database."""
    connection = await asyncpg.connect(database_url)
    yield Rows(connection)
    await connection.close()


@pytest_asyncio.fixture
async def committed(service: Service) -> list[Committed]:
    """What the service of conversations handed on, in order."""
    seen: list[Committed] = []
    service.parts["conversations"]._follow_up = seen.append
    return seen


async def make(service: Service, account: Account, **fields: Any) -> dict[str, Any]:
    """Make a conversation."""
    answer = await service.http.post(CONVERSATIONS, json=fields, headers=account.headers)
    assert answer.status_code in {200, 201}, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def ask(service: Service, account: Account, method: str, path: str, **options: Any) -> httpx.Response:
    """Ask for something below the conversations."""
    return await service.http.request(method, f"{CONVERSATIONS}{path}", headers=account.headers, **options)


async def titles(service: Service, account: Account, **query: Any) -> list[str]:
    """Return the titles of a list."""
    answer = await ask(service, account, "GET", "", params=query)
    assert answer.status_code == 200, answer.text
    return [conversation["title"] for conversation in answer.json()["data"]]
