"""The demo model's HTTP server: the protocol of OpenAI on asyncio streams. What it answers is decided elsewhere.

Ordinary answers come from a function of the request; answers on command from `script`.
"""

import asyncio
import contextlib
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from parley.agents.demo.chunks import DONE, Chunks, usage
from parley.agents.demo.http import HEAD_BYTES as READER_BYTES
from parley.agents.demo.http import BadRequest, ClientLeft, Exchange, Request, error_body, read_request
from parley.agents.demo.pieces import Finish, Piece, Text, ToolCall
from parley.agents.demo.script import NoSuchScript, Script, find_script, play
from parley.agents.demo.traffic import Traffic, Visit
from parley.core.clock import Clock, SystemClock
from parley.core.tasks import Tasks

ReplyTo = Callable[[dict[str, Any]], Iterator[Piece]]
"""Says what to answer to the body of a Chat Completions request."""

MODEL = "demo"
BACKLOG = 4096
CLOSE_S = 2.0
KEYS_KEPT = 1000  # of scripts that misbehave only some times


class DemoServer:
    """Answers on connections; keeps the record of them."""

    def __init__(self, reply: ReplyTo, *, pace_s: float, traffic: Traffic, tasks: Tasks, clock: Clock) -> None:
        self._reply = reply
        self._pace_s = pace_s
        self._traffic = traffic
        self._tasks = tasks
        self._clock = clock
        self._played: Counter[str] = Counter()

    def connect(self) -> asyncio.StreamReaderProtocol:
        """Return the protocol of a new connection."""
        return _Watched(self._traffic, self._arrived)

    def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        self._tasks.spawn("demo connection", self._serve(reader, writer, visit))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        try:
            while await self._serve_one(reader, writer, visit):
                pass
            writer.close()
        except (ConnectionError, TimeoutError):
            pass
        finally:
            if not writer.is_closing():
                writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> bool:
        """Answer one request; return whether another may follow."""
        try:
            request = await read_request(reader)
        except BadRequest as error:
            await self._exchange(writer, visit, "", "").json(error.status, error_body(str(error), "bad_request"))
            return False
        if request is None:
            return False
        exchange = self._exchange(writer, visit, request.method, request.path, request.headers)
        outcome = "cut"
        try:
            await self._answer(request, exchange)
            outcome = "complete"
        except ClientLeft:
            outcome = "abandoned"
            return False
        finally:
            self._traffic.end(exchange.call, outcome if exchange.stays_open else f"{outcome}, closed")
        return exchange.stays_open

    def _exchange(
        self,
        writer: asyncio.StreamWriter,
        visit: Visit,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
    ) -> Exchange:
        call = self._traffic.begin(visit, method=method, path=path, has_key="authorization" in (headers or {}))
        return Exchange(writer, visit, call, self._clock)

    async def _answer(self, request: Request, exchange: Exchange) -> None:
        match request.method, request.path:
            case "POST", "/v1/chat/completions":
                await self._complete(request, exchange)
            case "GET", "/v1/models":
                model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "parley"}
                await exchange.json(200, {"object": "list", "data": [model]})
            case "GET", "/stats":
                await exchange.json(200, self._traffic.as_json())
            case _:
                await exchange.json(404, error_body("there is nothing here", "not_found"))

    async def _complete(self, request: Request, exchange: Exchange) -> None:
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
            await exchange.json(400, error_body("the body is no request with messages", "bad_request"))
            return
        model = str(body.get("model") or MODEL)[:200]
        exchange.call.model = model
        chunks = Chunks(f"chatcmpl-demo-{self._traffic.number}", model, int(self._clock.now().timestamp()))
        try:
            script = find_script(request.headers, model)
        except NoSuchScript as error:
            await exchange.json(400, error_body(str(error), "no_such_script"))
            return
        if script is not None and self._is_due(script):
            exchange.call.script = script.kind
            await play(script, exchange, chunks)
        elif body.get("stream"):
            options = body.get("stream_options")
            has_usage = isinstance(options, dict) and bool(options.get("include_usage"))
            await self._stream(self._reply(body), exchange, chunks, has_usage=has_usage)
        else:
            await exchange.json(200, _whole(self._reply(body), chunks))

    def _is_due(self, script: Script) -> bool:
        if not script.times:
            return True
        if len(self._played) > KEYS_KEPT:
            self._played.clear()
        self._played[script.key] += 1
        return self._played[script.key] <= script.times

    async def _stream(self, pieces: Iterator[Piece], exchange: Exchange, chunks: Chunks, *, has_usage: bool) -> None:
        await exchange.begin_stream()
        await exchange.chunk(chunks.role())
        calls = 0
        for piece in pieces:
            match piece:
                case Text(text):
                    await exchange.chunk(chunks.text(text))
                    if self._pace_s:
                        await exchange.pause(self._pace_s)
                case ToolCall(call_id, name, arguments):
                    await exchange.chunk(chunks.call(calls, "", call_id, name) + chunks.call(calls, arguments))
                    calls += 1
                case Finish(reason, told):
                    end = chunks.usage(told.prompt_tokens, told.completion_tokens) if has_usage else b""
                    await exchange.chunk(chunks.finish(reason) + end + DONE)
        await exchange.chunk(b"")


class _Watched(asyncio.StreamReaderProtocol):
    """Notes the moment the close of the client's side arrives, whatever its answer is doing."""

    def __init__(
        self, traffic: Traffic, arrived: Callable[[asyncio.StreamReader, asyncio.StreamWriter, Visit], None]
    ) -> None:
        self._traffic = traffic
        self._visit = visit = traffic.arrive()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived(reader, writer, visit)

        super().__init__(asyncio.StreamReader(limit=READER_BYTES), begin)

    def eof_received(self) -> bool:
        self._traffic.leave(self._visit)
        return bool(super().eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        self._traffic.forget(self._visit)
        super().connection_lost(exc)


def _whole(pieces: Iterator[Piece], chunks: Chunks) -> dict[str, Any]:
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    reason, told = "stop", usage(0, 0)
    for piece in pieces:
        match piece:
            case Text(text):
                texts.append(text)
            case ToolCall(call_id, name, arguments):
                calls.append(
                    {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}},
                )
            case Finish(why, counted):
                reason, told = why, usage(counted.prompt_tokens, counted.completion_tokens)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if calls:
        message["tool_calls"] = calls
    answer = chunks.chunk([{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}])
    return {**answer, "object": "chat.completion", "usage": told}


@asynccontextmanager
async def open_demo(
    *,
    reply: ReplyTo,
    port: int = 0,
    listener: socket.socket | None = None,
    pace_s: float = 0.0,
    traffic: Traffic | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[str]:
    """Run the server on loopback, or on a listening socket, and yield its base URL; hand in `traffic` to read it."""
    clock = clock or SystemClock()
    tasks = Tasks()
    server = DemoServer(reply, pace_s=pace_s, traffic=traffic or Traffic(clock), tasks=tasks, clock=clock)
    loop = asyncio.get_running_loop()
    if listener is None:
        listener = socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    listening = await loop.create_server(server.connect, sock=listener, backlog=BACKLOG)
    host, number = listening.sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{number}/v1"
    finally:
        listening.close()
        await tasks.close(CLOSE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await listening.wait_closed()
        await asyncio.sleep(0)  # lost connections are told in the next round
