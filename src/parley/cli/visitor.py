"""A synthetic visitor: asks over WebSocket, asks for the same again over SSE, compares, and deletes what it made.

Says how it went and never raises for a fault of the service. Knows nothing of metrics and schedules.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from parley.client import ConnectionLost, ContentMismatch, Event, ParleyClient, ParleyError, SignIn
from parley.client.comeback import Interrupted
from parley.client.events import RECONNECTING
from parley.client.ids import new_client_id
from parley.client.plain import check
from parley.client.state import Shown
from parley.core.clock import Clock

OUTCOMES = ("ok", "unreachable", "refused", "timeout", "failed", "mismatch")
TIDY_S = 5.0  # to delete and to sign out: a server that hangs must not hold the probe for long once more
NAME = "parley probe"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one conversation went."""

    outcome: str
    """One of OUTCOMES."""
    detail: str
    duration_s: float
    first_token_s: float | None
    mismatches: int
    """Replies that arrived torn, also those that were whole when they were read again."""

    @property
    def is_ok(self) -> bool:
        """Whether a person would have been content."""
        return self.outcome == "ok"


@dataclass(frozen=True, slots=True)
class Account:
    """Who signs in; without one it is a guest, as a visitor of the page `origin`, by default of the service's own."""

    email: str | None = None
    password: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """What every conversation is like."""

    url: str
    question: str
    within_s: float
    account: Account = Account()


class _Fault(Exception):
    """What a person would complain about."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome


@dataclass(slots=True)
class _Seen:
    conversations: list[str] = field(default_factory=list)
    first_token_s: float | None = None
    mismatches: int = 0

    def note(self, event: Event) -> None:
        # The client reads a torn reply again by itself; that it was torn is what we are here for.
        if event.type == RECONNECTING and event.data["reason"] == "content_mismatch":
            self.mismatches += 1


class Visitor:
    """One session, signed in when it is first needed, over any number of conversations; a single one at a time."""

    def __init__(self, http: httpx.AsyncClient, visit: Visit, clock: Clock) -> None:
        self._http = http
        self._url = visit.url.rstrip("/")
        self._visit = visit
        self._clock = clock
        self._session: SignIn | None = None

    async def converse(self) -> Verdict:
        """Have one conversation; takes `within_s` and TIDY_S at the longest, but for the closing of a socket."""
        began, seen = self._clock.monotonic(), _Seen()
        try:
            fault = await _judged(self._talk(seen), self._visit.within_s)
        finally:
            # Also where the probe is told to end.
            litter = await _judged(self._delete(seen), TIDY_S)
        took_s = self._clock.monotonic() - began
        if fault is None and seen.mismatches:
            fault = _Fault("mismatch", "a reply arrived torn, and whole when it was read again")
        fault = fault or litter
        if fault is not None and fault.outcome == "refused":
            self._session = None
        mismatches = seen.mismatches or int(fault is not None and fault.outcome == "mismatch")
        outcome, detail = ("ok", "") if fault is None else (fault.outcome, str(fault))
        return Verdict(outcome, detail, took_s, seen.first_token_s, mismatches)

    async def leave(self) -> None:
        """Sign out; where that fails the session ends by itself."""
        if self._session is not None:
            await _judged(self._request("POST", "/auth/logout"), TIDY_S)

    async def _talk(self, seen: _Seen) -> None:
        async with ParleyClient(self._url, token=await self._signed_in(), http=self._http) as client:
            conversation_id = (await client.create_conversation(title=NAME))["id"]
            seen.conversations.append(conversation_id)
            client_id = new_client_id()
            asked = await self._ask(client, conversation_id, client_id, seen)
            # The same question under the same id: no other answer, no other call of the model, nothing of the limits.
            again = await self._ask_again(client, conversation_id, client_id, seen)
            if (asked.id, asked.content) != (again.id, again.content):
                raise _Fault("mismatch", "the answer over SSE is not the one over WebSocket")

    async def _ask(self, client: ParleyClient, conversation_id: str, client_id: str, seen: _Seen) -> Shown:
        async with client.watch(conversation_id, patience_s=self._visit.within_s) as stream:
            async for event in stream:
                seen.note(event)
                if event.type == "ready":
                    break
            asked_at = self._clock.monotonic()
            taken = await stream.send(self._visit.question, client_id=client_id)
            if taken.reply_id is None:
                raise _Fault("failed", "nothing answers: the conversation is a person's")
            async for event in stream:
                seen.note(event)
                if event.type == "token" and seen.first_token_s is None:
                    seen.first_token_s = self._clock.monotonic() - asked_at
                reply = stream.state.find(taken.reply_id)
                # Mostly its `complete`; after a reset, which brings ended replies whole, there is none.
                if reply is not None and not reply.is_live:
                    return _whole(reply, event)
        raise _Fault("unreachable", "the stream ended before the answer")

    async def _ask_again(self, client: ParleyClient, conversation_id: str, client_id: str, seen: _Seen) -> Shown:
        async with client.ask(self._visit.question, conversation_id=conversation_id, client_id=client_id) as answer:
            async for event in answer:
                seen.note(event)
            if answer.reply is None or answer.reply.is_live:
                raise _Fault("mismatch", "the stream ended without the end of the answer")
            return _whole(answer.reply)

    async def _signed_in(self) -> SignIn:
        if self._session is None:
            session, account = SignIn(self._url, http=self._http), self._visit.account
            if account.email is None or account.password is None:
                await session.as_guest(NAME, origin=account.origin)
            else:
                await session.as_account(account.email, account.password)
            self._session = session
        return self._session

    async def _delete(self, seen: _Seen) -> None:
        for conversation_id in seen.conversations:
            await self._request("DELETE", f"/chat/conversations/{quote(conversation_id)}")

    async def _request(self, method: str, path: str) -> None:
        token = await (await self._signed_in())(False)  # noqa: FBT003  # a TokenSource takes it so
        check(await self._http.request(method, f"{self._url}{path}", headers={"Authorization": f"Bearer {token}"}))


async def _judged(work: Coroutine[Any, Any, None], within_s: float) -> _Fault | None:
    """Return what went wrong in a piece of work, with no answer in time as one of the things that do."""
    try:
        async with asyncio.timeout(within_s):
            await work
    except TimeoutError:
        return _Fault("timeout", f"no whole answer within {within_s:g} s")
    except _Fault as fault:
        return fault
    except ContentMismatch as error:
        return _Fault("mismatch", str(error))
    except (ParleyError, Interrupted) as error:
        is_away = isinstance(error, ConnectionLost) or error.code == "unreachable"
        return _Fault("unreachable" if is_away else "refused", f"{error.message} ({error.code})")
    except httpx.HTTPError as error:
        return _Fault("unreachable", f"The server cannot be reached: {type(error).__name__}.")
    return None


def _whole(reply: Shown, ended: Event | None = None) -> Shown:
    if reply.status != "complete":
        error = (ended.data.get("error") if ended is not None else None) or {"code": "no error told"}
        raise _Fault("failed", f"the reply ended as {reply.status} ({error['code']})")
    if not reply.content:
        raise _Fault("failed", "the reply is empty")
    return reply
