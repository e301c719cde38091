"""A running service with a provider that answers on command, people who talk to it, and screens that keep a history."""

import asyncio
import contextlib
import functools
import itertools
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import asyncpg
import httpx
from tests.fixtures.history import ENDED, Asked, Fields, Heard, History, check
from tests.fixtures.warm import begin
from tests.story.doors import Door, door
from tests.story.serving import Serving

from parley.chat.protocol import OnBusy
from parley.client import ParleyClient, ParleyError, State
from parley.client.answer import Answer
from parley.client.commanding import Taken
from parley.client.watch import SocketWatch, Watch

PASSWORD = "correct horse battery"
SLOW = 30.0  # a busy machine; what is promised is measured on its own
PACE_S = 0.02
AT_WILL = "1000000/second"
ENVIRON = {
    "PARLEY_AUTH_BCRYPT_COST": "4",
    "PARLEY_MODEL_NAME": "demo",
    "PARLEY_MODEL_BUDGET_TOKENS_PER_MINUTE": "100000000",
    "PARLEY_MODEL_BUDGET_TOKENS_PER_DAY": "100000000",
    "PARLEY_CHAT_SOCKETS_PER_USER": "1000",
    "PARLEY_CHAT_LOOP_LAG_S": "10",  # the machine has other work to do
    **{f"PARLEY_LIMIT_{name}": AT_WILL for name in ("GENERAL", "LISTS", "ASK", "LOGIN", "REGISTER")},
}
_ROWS = """
    SELECT id::text, conversation_id::text, seq, rev, role, content, status, client_id, question_id::text,
        replaces::text, attempt, takeovers, owner::text, shown_steps::text AS steps, finish_reason
    FROM messages WHERE conversation_id = ANY($1::uuid[]) ORDER BY conversation_id, seq
"""


def tokens(count: int, pause_s: float = PACE_S, **fields: Any) -> str:
    """Return the model that says so many tokens at this pace."""
    return f"script-tokens?{urlencode({'count': count, 'pause_s': pause_s, **fields})}"


def said(count: int) -> str:
    """Return what that model says."""
    return "".join(f" T{number}" for number in range(count))


class Provider:
    """The demo model in a process of its own, so that its record can be read and the service's end is not its own."""

    def __init__(self) -> None:
        self._process = begin(
            [sys.executable, "-m", "parley.agents.demo", "--pace-s", str(PACE_S)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    async def calls(self, model: str) -> list[dict[str, Any]]:
        """Return the calls for a model, as the provider saw them."""
        async with httpx.AsyncClient() as http:
            stats = (await http.get(self.url.removesuffix("/v1") + "/stats")).json()
        return [call for call in stats["calls"] if call["model"] == model]

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(SLOW)
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account."""

    id: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class Screen:
    """One place that shows a conversation, and remembers all it was told and did."""

    def __init__(self, watch: Watch | Answer, history: History) -> None:
        self.watch = watch
        self.history = history
        self._news = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.watch.__aenter__()
        self._reading = asyncio.create_task(self._read(), name=f"screen {self.history.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._reading is not None
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self.watch.__aexit__(None, None, None)

    async def _read(self) -> None:
        try:
            async for event in self.watch:
                self.history.heard.append(Heard(time.monotonic(), event.data))
                self._news.set()
        except ParleyError as error:
            self.history.broke = f"{type(error).__name__}: {error}"
        self._news.set()

    @property
    def is_over(self) -> bool:
        return self._reading is not None and self._reading.done()

    async def until(self, holds: Callable[[History], Any], patience_s: float = SLOW) -> float:
        """Wait for something to be told; return how long that took."""
        began = time.monotonic()
        while not holds(self.history):
            told = [heard.event["type"] for heard in self.history.heard[-20:]]
            assert not self.is_over, f"{self.history.name} is over: {self.history.broke}, after {told}"
            left_s = began + patience_s - time.monotonic()
            assert left_s > 0, f"{self.history.name} waited in vain, after {told}"
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left_s)
        return time.monotonic() - began

    async def until_over(self, patience_s: float = SLOW) -> None:
        assert self._reading is not None
        await asyncio.wait_for(asyncio.shield(self._reading), patience_s)

    async def until_text(self, length: int = 1, message_id: str | None = None) -> str:
        """Wait for so many characters of some reply, and return which it is."""

        def named(history: History) -> str | None:
            for event in reversed(history.of_type("token")):
                if message_id in {None, event["message_id"]} and len(history.text(event["message_id"])) >= length:
                    return str(event["message_id"])
            return None

        await self.until(named)
        found = named(self.history)
        assert found is not None
        return found

    async def until_end(self, message_id: str, patience_s: float = SLOW) -> Fields:
        await self.until(lambda history: history.end_of(message_id), patience_s)
        end = self.history.end_of(message_id)
        assert end is not None
        return end

    async def send(self, content: str, *, client_id: str | None = None, on_busy: OnBusy = "queue") -> Taken:
        """Ask over this screen's socket, and note what was acknowledged."""
        assert isinstance(self.watch, SocketWatch)
        client_id = client_id or f"{self.history.name}-{time.monotonic_ns()}"
        taken = await self.watch.send(content, client_id=client_id, on_busy=on_busy)
        self.history.asked.append(Asked(client_id, content, taken.message_id, taken.reply_id))
        return taken

    @property
    def socket(self) -> SocketWatch:
        assert isinstance(self.watch, SocketWatch)
        return self.watch


class Chatting:
    """A service under test, shared by the tests of a module: each makes its own people, agents and conversations."""

    def __init__(self, place: Path, *arguments: str, environ: dict[str, str] | None = None) -> None:
        self.provider = Provider()
        environ = {**ENVIRON, "PARLEY_MODEL_BASE_URL": self.provider.url, **(environ or {})}
        self.serving = Serving(place, *arguments, environ=environ)
        self._again = functools.partial(Serving, place, *arguments, environ=environ)
        self.ports: dict[int, list[int]] = {}
        self._numbers = itertools.count()
        self._admin: Person | None = None
        try:
            self.serving.wait_ready()
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        self.serving.end()
        self.provider.end()

    def start_again(self) -> None:
        """Start another one in the place of a service that has ended."""
        self.serving = self._again()
        self.serving.wait_ready()

    @property
    def url(self) -> str:
        return self.serving.address

    @asynccontextmanager
    async def http(self, person: Person | None = None, url: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        headers = person.headers if person else {}
        async with httpx.AsyncClient(base_url=url or self.url, headers=headers, timeout=SLOW, verify=False) as http:
            yield http

    async def ask(self, person: Person | None, method: str, path: str, **options: Any) -> httpx.Response:
        async with self.http(person) as http:
            return await http.request(method, path, **options)

    async def person(self, role: str = "user") -> Person:
        """Register somebody."""
        email = f"{role}-{next(self._numbers)}@shop.example"
        sent = {"email": email, "password": PASSWORD, "name": email.partition("@")[0]}
        answer = await self.ask(None, "POST", "/auth/register", json=sent)
        assert answer.status_code == 201, answer.text
        if role != "user":
            await self._execute("UPDATE users SET role = $1 WHERE email = $2", role, email)
            answer = await self.ask(None, "POST", "/auth/token", data={"username": email, "password": PASSWORD})
        body = answer.json()
        return Person(body["user"]["id"], body["access_token"])

    async def agent(self, model: str, **definition: Any) -> str:
        """Make an agent that asks this model, and return its name."""
        if self._admin is None:
            self._admin = await self.person("admin")
        name = f"agent-{next(self._numbers)}"
        body = {"prompt": "Answer.", "models": {"cheap": model, "strong": model}, **definition}
        answer = await self.ask(self._admin, "PUT", f"/agents/{name}", json=body)
        assert answer.status_code == 200, answer.text
        return name

    async def conversation(self, person: Person, agent: str | None = None) -> str:
        answer = await self.ask(person, "POST", "/chat/conversations", json={"agent": agent})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def rows(self, *conversation_ids: str) -> list[dict[str, Any]]:
        """Return what is stored, straight from the database."""
        connection = await self._database()
        try:
            found = await connection.fetch(_ROWS, conversation_ids)
        finally:
            await connection.close()
        return [{**row, "steps": json.loads(row["steps"])} for row in found]

    async def _execute(self, statement: str, *values: Any) -> None:
        connection = await self._database()
        try:
            await connection.execute(statement, *values)
        finally:
            await connection.close()

    async def _database(self) -> Any:
        return await asyncpg.connect(self.serving.told()["database_url"], timeout=5)


class Stage:
    """The people, doors and screens of one test; at its end every history is checked."""

    def __init__(self, chatting: Chatting, stack: AsyncExitStack) -> None:
        self.chatting = chatting
        self.screens: list[Screen] = []
        self._stack = stack
        self._clients: dict[tuple[str, str], ParleyClient] = {}

    async def door(self, leads: Callable[[int], bool]) -> Door:
        return await self._stack.enter_async_context(door(self.chatting.serving, leads, self.chatting.ports))

    async def door_to(self, *pids: int) -> Door:
        return await self.door(lambda pid: pid in pids)

    async def client(self, person: Person, url: str | None = None) -> ParleyClient:
        url = url or self.chatting.url
        if (person.id, url) not in self._clients:
            made = ParleyClient(url, token=person.token)
            self._clients[person.id, url] = await self._stack.enter_async_context(made)
        return self._clients[person.id, url]

    async def tab(self, person: Person, conversation_id: str, url: str | None = None) -> Screen:
        """Open a screen over WebSocket, and wait until it shows the conversation."""
        client = await self.client(person, url)
        screen = await self._show(client.watch(conversation_id), person, conversation_id)
        await screen.until(lambda history: history.of_type("reset"))
        return screen

    async def tab_sse(self, person: Person, conversation_id: str, url: str | None = None) -> Screen:
        """Open a screen over SSE."""
        client = await self.client(person, url)
        screen = await self._show(client.watch_sse(conversation_id), person, conversation_id)
        await screen.until(lambda history: history.of_type("reset"))
        return screen

    async def post(
        self, person: Person, content: str, conversation_id: str | None, *, client_id: str, url: str | None = None
    ) -> Screen:
        """Ask by POST and watch the answer."""
        client = await self.client(person, url)
        answer = client.ask(content, conversation_id=conversation_id, client_id=client_id)
        screen = await self._show(answer, person, conversation_id or "")
        screen.history.is_whole = False
        await screen.until(lambda history: history.of_type("ack"))
        [ack] = screen.history.of_type("ack")
        screen.history.asked.append(Asked(client_id, content, ack["message_id"], ack["reply_id"]))
        return screen

    async def hop(self, person: Person, history: History, url: str, state: State, cursor: str | None) -> Screen:
        """Go on over a socket elsewhere, with what another screen held."""
        watch = (await self.client(person, url)).watch(history.conversation_id)
        watch._following.state, watch._following.cursor = state, cursor
        screen = Screen(watch, history)
        self.screens.append(screen)
        return await self._stack.enter_async_context(screen)

    async def leave(self, screen: Screen) -> None:
        """Close a screen; what it was told so far is still checked."""
        await screen.__aexit__(None, None, None)
        screen.history.stayed = False

    async def _show(self, watch: Watch | Answer, person: Person, conversation_id: str) -> Screen:
        history = History(f"{person.id[:8]}-{len(self.screens)}", person.id, conversation_id, stayed=True)
        screen = Screen(watch, history)
        self.screens.append(screen)
        return await self._stack.enter_async_context(screen)

    async def settle(self, *conversation_ids: str, patience_s: float = SLOW) -> list[dict[str, Any]]:
        """Wait until all replies have ended and all screens say so; check every history and return the rows."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                rows = await self.chatting.rows(*conversation_ids)
            except (OSError, asyncpg.PostgresError):  # may be on its way back
                rows = []
            wrong = check([screen.history for screen in self.screens], rows)
            if not wrong and all(row["role"] != "assistant" or row["status"] in ENDED for row in rows):
                break
            assert time.monotonic() < deadline, "\n".join([*wrong, *map(repr, rows)])
            await asyncio.sleep(0.2)
        self._compare_states(rows)
        return rows

    def _compare_states(self, rows: Sequence[Fields]) -> None:
        """The client's own fold holds the same as ours."""
        stored = {row["id"]: row["content"] for row in rows}
        for screen in self.screens:
            if screen.history.stayed:
                for shown in screen.watch.state.shown():
                    assert shown.content == stored[shown.id], screen.history.name


@asynccontextmanager
async def staged(chatting: Chatting) -> AsyncIterator[Stage]:
    """Hold what one test opens."""
    async with AsyncExitStack() as stack:
        yield Stage(chatting, stack)


def gaps(times: Sequence[float]) -> list[float]:
    """Return the seconds between what came one after the other."""
    return [after - before for before, after in itertools.pairwise(times)]


def percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
