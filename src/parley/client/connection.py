"""The client: one for each server and user. Opens streams and sends what goes over plain HTTP; prints nothing."""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx

from parley.client.answer import Answer
from parley.client.comeback import Comeback, Interrupted
from parley.client.credentials import Credentials, TicketSource, TokenSource
from parley.client.errors import CommandRefused, ConnectionLost
from parley.client.events import Event
from parley.client.following import Following
from parley.client.ids import new_client_id
from parley.client.links import stream_events
from parley.client.plain import DEADLINE_S, check, open_http, unreachable
from parley.client.watch import SocketWatch, StreamWatch

PATIENCE_S = 120.0  # how long an answer may stay away without a word


class ParleyClient:
    """Use it as `async with`. With tickets it can watch only; everything else needs a token."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | TokenSource | None = None,
        tickets: TicketSource | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._credentials = Credentials(token, tickets)
        self._owns_http = http is None
        self._http = http or open_http(self._base_url)

    async def __aenter__(self) -> Self:
        """Open nothing yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close what was opened here."""
        if self._owns_http:
            await self._http.aclose()

    def watch(self, conversation_id: str, *, patience_s: float | None = None) -> SocketWatch:
        """Watch over WebSocket and take part; comes back for `patience_s` (None: forever)."""
        path = f"{self._base_url.replace('http', 'ws', 1)}/chat/ws/{quote(conversation_id)}"

        async def url(cursor: str | None) -> str:
            return f"{path}{_query({**await self._credentials.query(), **_cursor(cursor)})}"

        return SocketWatch(self._following(patience_s), url, deadline_s=DEADLINE_S)

    def watch_sse(self, conversation_id: str, *, patience_s: float | None = None) -> StreamWatch:
        """Watch over SSE, where WebSockets do not get through."""
        path = f"{self._base_url}/chat/conversations/{quote(conversation_id)}/stream"

        async def connect(following: Following) -> AsyncGenerator[Event]:
            headers = {**await self._credentials.headers(), **_last_event_id(following.cursor)}
            url = f"{path}{_query(await self._credentials.query())}"
            return stream_events(self._http, "GET", url, headers=headers)

        return StreamWatch(self._following(patience_s), connect)

    def ask(self, content: str, *, conversation_id: str | None = None, client_id: str | None = None) -> Answer:
        """Ask, and watch the answer to its end; without a conversation one is made."""
        body = {"message": content, "client_id": client_id or new_client_id()}
        if conversation_id is not None:
            body["conversation_id"] = conversation_id

        async def post(following: Following) -> AsyncGenerator[Event]:
            headers = {**await self._credentials.headers(), **_last_event_id(following.cursor)}
            return stream_events(self._http, "POST", f"{self._base_url}/chat/stream", headers=headers, body=body)

        return Answer(self._following(PATIENCE_S), post)

    async def create_conversation(self, *, client_id: str | None = None, **fields: Any) -> dict[str, Any]:
        """Make a conversation; sent again with the same client_id it is the same one."""
        return await self._command("/chat/conversations", {"client_id": client_id or new_client_id(), **fields})

    async def send(self, conversation_id: str, content: str, *, client_id: str | None = None) -> dict[str, Any]:
        """Ask without watching."""
        body = {"content": content, "client_id": client_id or new_client_id()}
        return await self._command(f"/chat/conversations/{quote(conversation_id)}/messages", body)

    async def stop(self, message_id: str) -> dict[str, Any]:
        """End a reply."""
        return await self._command(f"/chat/messages/{quote(message_id)}/stop", None)

    async def regenerate(self, message_id: str, *, client_id: str | None = None) -> dict[str, Any]:
        """Have the newest question answered again."""
        body = {"client_id": client_id or new_client_id()}
        return await self._command(f"/chat/messages/{quote(message_id)}/regenerate", body)

    def _following(self, patience_s: float | None) -> Following:
        return Following(self._credentials, patience_s=patience_s)

    async def _command(self, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """Send until it is answered: each of these commands, sent twice, is done once."""
        comeback = Comeback()
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    try:
                        return await self._post(path, body)
                    except Interrupted as ended:
                        wait_s = comeback.wait_s(ended, 0.0, random.random())  # noqa: S311  # spreads, guards nothing
                        if wait_s is None or (ended.move == "renew" and not self._credentials.can_renew):
                            raise CommandRefused(ended.code, ended.message) from None
                        if ended.move == "renew":
                            self._credentials.renew()
                    await asyncio.sleep(wait_s)
        except TimeoutError:
            raise ConnectionLost("no_answer", "The server did not answer in time.", is_retryable=True) from None

    async def _post(self, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        headers = await self._credentials.headers()
        try:
            response = await self._http.post(f"{self._base_url}{path}", json=body, headers=headers)
        except httpx.TransportError as error:
            raise unreachable(error) from None
        check(response)
        answer: dict[str, Any] = response.json()
        return answer


def _cursor(cursor: str | None) -> dict[str, str]:
    return {} if cursor is None else {"cursor": cursor}


def _last_event_id(cursor: str | None) -> dict[str, str]:
    return {} if cursor is None else {"Last-Event-ID": cursor}


def _query(values: Mapping[str, str]) -> str:
    return f"?{urlencode(values)}" if values else ""
