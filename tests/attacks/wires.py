"""Both wires of the chat by hand: frames and events as they come, and a model that repeats what it is asked."""

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
from tests.conftest import Start
from tests.core.edge import CLOSE, PING, TEXT, Client, frame
from tests.fixtures.service import Account, Service

from parley.agents.demo.pieces import Finish, Piece, Text, Usage
from parley.agents.demo.server import open_demo

WAIT_S = 15.0  # a busy machine; what is promised is measured on its own
PAGE = "http://localhost:3000"
ENDLESS = "endless"
Event = dict[str, Any]


def parrot(body: dict[str, Any]) -> Iterator[Piece]:
    """Say what was asked, in pieces of three characters; words without an end where that was asked."""
    question = str(body["messages"][-1]["content"])
    if question.startswith(ENDLESS):
        size = int(question.partition(" ")[2] or 5)
        yield from (Text(f"{number:<{size}}") for number in itertools.count())
    yield from (Text(question[start : start + 3]) for start in range(0, len(question), 3))
    yield Finish("stop", Usage(1, 1))


@asynccontextmanager
async def chatting(start_on_socket: Start, *, pace_s: float = 0.0, **variables: str) -> AsyncIterator[Service]:
    """Run the service with that model, on a machine that has other work to do."""
    variables = {"PARLEY_CHAT_LOOP_LAG_S": "10", **variables}
    async with (
        open_demo(reply=parrot, pace_s=pace_s) as url,
        start_on_socket(PARLEY_MODEL_BASE_URL=url, PARLEY_MODEL_API_KEY="k", **variables) as service,
    ):
        await service.parts["readiness"].wait()
        yield service


@dataclass
class Talk:
    """A conversation and who owns it."""

    service: Service
    account: Account
    id: str
    replies: list[str] = field(default_factory=list)

    async def ask(self, content: str = "Hello", **fields: Any) -> dict[str, Any]:
        """Ask, and return what was stored."""
        path = f"/chat/conversations/{self.id}/messages"
        answer = await self.service.http.post(path, json={"content": content, **fields}, headers=self.account.headers)
        assert answer.status_code in {200, 202}, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def answered(self, content: str = "Hello") -> dict[str, Any]:
        """Ask, and return question and reply once that has ended."""
        body = {"message": content, "conversation_id": self.id}
        answer = await self.service.http.post("/chat/send", json=body, headers=self.account.headers, timeout=WAIT_S)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def messages(self) -> list[dict[str, Any]]:
        path = f"/chat/conversations/{self.id}/messages?limit=100"
        answer = await self.service.http.get(path, headers=self.account.headers)
        return list(answer.json()["data"])


async def talk(service: Service, account: Account | None = None, **fields: Any) -> Talk:
    """Make a conversation."""
    account = account or await service.register()
    made = await service.http.post("/chat/conversations", json=fields, headers=account.headers)
    assert made.status_code == 201, made.text
    return Talk(service, account, made.json()["id"])


@asynccontextmanager
async def remote(port: int) -> AsyncIterator[Service]:
    """A service in processes of its own: everything but its parts."""
    base_url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base_url, verify=False) as http:
        yield Service(http, cast("Any", None), cast("Any", None), base_url)


async def ticket(service: Service, account: Account, origin: str | None = PAGE, **body: str) -> str:
    """Buy a ticket."""
    headers = account.headers | ({"Origin": origin} if origin else {})
    sold = await service.http.post("/auth/ticket", json=body, headers=headers)
    assert sold.status_code == 201, sold.text
    return str(sold.json()["ticket"])


def port_of(service: Service) -> int:
    return int(service.base_url.rpartition(":")[2])


class Socket(Client):
    """A WebSocket by hand."""

    async def event(self) -> Event:
        """Return the next event."""
        while True:
            opcode, data = await self.frame()
            if opcode == PING:
                continue
            assert opcode == TEXT, (opcode, data)
            told: Event = json.loads(data)
            return told

    async def until(self, kind: str, **fields: Any) -> list[Event]:
        """Return all events up to the first of this type with these fields."""
        told: list[Event] = []
        async with asyncio.timeout(WAIT_S):
            while True:
                told.append(await self.event())
                if told[-1]["type"] == kind and fields.items() <= told[-1].items():
                    return told

    async def say(self, kind: str, **fields: Any) -> None:
        await self.send(frame(TEXT, json.dumps({"type": kind, **fields}).encode()))

    async def is_served(self) -> None:
        """Assert that it answers as if nothing had been."""
        await self.say("ping")
        await self.until("pong")

    async def end(self) -> tuple[int | None, bytes]:
        """Return code and reason of the close frame, whatever comes before it; None where there was none."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                opcode, data = await self.frame()
                if opcode == CLOSE:
                    return int.from_bytes(data[:2]) if data else 1005, data[2:]
        return None, b""


def upgrade(path: str, headers: dict[str, str]) -> bytes:
    """Return the request for a WebSocket."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: service",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {'A' * 22}==",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def dialled(port: int, **options: Any) -> AsyncIterator[Socket]:
    """Connect, and say nothing yet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    try:
        yield Socket(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def answer_to(socket: Socket) -> tuple[int, bytes]:
    """Return status and all that is said beside it, of a request that was sent."""
    async with asyncio.timeout(WAIT_S):
        head = await socket.reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = re.search(rb"(?i)content-length: (\d+)", head)
        return status, head + (await socket.reader.readexactly(int(length[1])) if length else b"")


async def knock(service: Service, path: str, **headers: str) -> tuple[int, bytes]:
    """Ask for a WebSocket; return the status and what came with it."""
    async with dialled(port_of(service)) as socket:
        await socket.send(upgrade(path, headers))
        return await answer_to(socket)


@asynccontextmanager
async def socket_to(
    port: int, conversation_id: str, query: str = "", *, headers: dict[str, str], **options: Any
) -> AsyncIterator[Socket]:
    """Watch a conversation over a WebSocket."""
    async with dialled(port, **options) as socket:
        await socket.send(upgrade(f"/chat/ws/{conversation_id}{query}", headers))
        status, head = await answer_to(socket)
        assert status == 101, head
        yield socket


@asynccontextmanager
async def watching(talk: Talk, account: Account | None = None, query: str = "") -> AsyncIterator[Socket]:
    """Watch over a WebSocket, all that comes first taken."""
    headers = (account or talk.account).headers
    async with socket_to(port_of(talk.service), talk.id, query, headers=headers) as socket:
        await socket.until("reset" if "cursor" not in query else "ready")
        yield socket


@dataclass
class Record:
    """One event of a stream as the standard reads it: what each field says, all lines of data joined."""

    data: str = ""
    id: str | None = None
    fields: list[str] = field(default_factory=list)

    @property
    def event(self) -> Event:
        told: Event = json.loads(self.data)
        return told

    @property
    def is_done(self) -> bool:
        return self.data == "[DONE]"


def records_of(raw: bytes) -> list[Record]:
    """Parse a stream by the rules of the HTML standard: lines end with CR LF, LF or CR and nothing else."""
    records, record = [], Record()
    text = raw.decode().removeprefix("\ufeff")
    for line in re.split("\r\n|\n|\r", text)[:-1]:
        if not line:
            if record.fields:
                records.append(record)
            record = Record()
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            record.fields.append(name)
            if name == "data":
                record.data = f"{record.data}\n{value}" if "data" in record.fields[:-1] else value
            elif name == "id":
                record.id = value
    return records


class Stream:
    """A response of events, read as it comes."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.raw = b""
        self._bytes = response.aiter_raw()
        self._given = 0

    async def record(self) -> Record | None:
        """Return the next event, None at the end."""
        while len(records := records_of(self.raw)) <= self._given:
            try:
                async with asyncio.timeout(WAIT_S):
                    self.raw += await anext(self._bytes)
            except StopAsyncIteration:
                return None
        self._given += 1
        return records[self._given - 1]

    async def until(self, kind: str, **fields: Any) -> list[Event]:
        """Return all events up to the first of this type with these fields."""
        told: list[Event] = []
        while (record := await self.record()) is not None:
            told.append(record.event | ({"id": record.id} if record.id else {}))
            if told[-1]["type"] == kind and fields.items() <= told[-1].items():
                return told
        raise AssertionError(f"ended before {kind}: {told}")

    async def rest(self) -> list[Record]:
        """Return all that still comes."""
        found = []
        while (record := await self.record()) is not None:
            found.append(record)
        return found


@asynccontextmanager
async def streaming(
    service: Service, method: str, path: str, status: int = 200, **options: Any
) -> AsyncIterator[Stream]:
    """Open a stream of events."""
    async with service.http.stream(method, path, timeout=WAIT_S, **options) as response:
        assert response.status_code == status, (response.status_code, await response.aread())
        yield Stream(response)


@asynccontextmanager
async def asking(service: Service, account: Account, body: dict[str, Any], **headers: str) -> AsyncIterator[Stream]:
    """Ask and watch."""
    async with streaming(service, "POST", "/chat/stream", json=body, headers={**account.headers, **headers}) as stream:
        yield stream


@asynccontextmanager
async def following(
    talk: Talk, account: Account | None = None, query: str = "", **headers: str
) -> AsyncIterator[Stream]:
    """Watch over a stream."""
    path = f"/chat/conversations/{talk.id}/stream{query}"
    headers = {**(account or talk.account).headers, **headers}
    async with streaming(talk.service, "GET", path, headers=headers) as stream:
        yield stream


def text_of(events: list[Event], reply_id: str | None = None) -> str:
    """Return the text a screen shows of a reply after these events."""
    text = ""
    for event in events:
        if reply_id is not None and event.get("message_id", event.get("message", {}).get("id")) != reply_id:
            continue
        if event["type"] == "token":
            text += event["content"]
        elif event["type"] == "restart":
            text = ""
        elif event["type"] == "message" and event["message"]["role"] == "assistant":
            text = event["message"]["content"] or text
    return text
