"""Runs as `python -m tests.bench.references WHICH UPSTREAM`: what Parley's stream is measured against; prints its port.

`tutorial` is the server that every tutorial writes; `relay` passes the provider's bytes on and knows nothing of them;
`handshakes` opens every socket, says one word, and asks nobody who that is. `broadcast` is the chat room of every
tutorial: in one process, what one says all are told, one after the other, and nothing is kept.
"""

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from tests.bench.token_upstream import wish

MODEL = "bench"
NOBODY = "00000000-0000-7000-8000-000000000000"
EVENT_STREAM = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]


class Ask(BaseModel):
    message: str


def _body(message: str) -> dict[str, Any]:
    return {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": message}]}


def tutorial(upstream: str) -> ASGIApp:
    """FastAPI, AsyncOpenAI, StreamingResponse."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.openai = AsyncOpenAI(base_url=upstream, api_key="none")
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/chat/stream")
    async def chat(ask: Ask) -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            stream = await app.state.openai.chat.completions.create(**_body(ask.message))
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield "data: " + json.dumps({"content": chunk.choices[0].delta.content}) + "\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    return app


def relay(upstream: str) -> ASGIApp:
    """Bytes in, bytes out."""
    sessions: list[aiohttp.ClientSession] = []

    async def lifespan(receive: Receive, send: Send) -> None:
        await receive()
        sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await sessions[0].close()
        await send({"type": "lifespan.shutdown.complete"})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        asked = b""
        while True:
            part = await receive()
            asked += part["body"]
            if not part["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM})
        body = _body(json.loads(asked)["message"])
        async with sessions[0].post(upstream + "/chat/completions", json=body) as answer:
            async for data in answer.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


def handshakes(_: str) -> ASGIApp:
    """Sockets, and nothing behind them."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return  # nothing to begin or end
        await receive()
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
        await send({"type": "websocket.send", "text": '{"type":"reset"}'})
        await receive()

    return app


def broadcast(_: str) -> ASGIApp:
    """Starlette's sockets in a list."""
    sockets: list[WebSocket] = []

    async def serve(socket: WebSocket) -> None:
        await socket.accept(socket.scope["subprotocols"][0])
        sockets.append(socket)
        await socket.send_text('{"type":"reset"}')
        async for text in socket.iter_text():
            tokens, per_s = wish(text.encode())
            began = time.monotonic()
            for number in range(tokens):
                await asyncio.sleep(began + number / per_s - time.monotonic())
                await tell({"type": "token", "message_id": NOBODY, "text": f" word{number}", "cursor": "x" * 96})
            await tell({"type": "complete"})

    async def tell(event: dict[str, str]) -> None:
        text = json.dumps(event, separators=(",", ":"))
        for viewer in sockets:
            await viewer.send_text(text)

    return Starlette(routes=[WebSocketRoute("/chat/ws/{conversation_id}", serve)])


REFERENCES: Mapping[str, Any] = {
    "tutorial": tutorial,
    "relay": relay,
    "handshakes": handshakes,
    "broadcast": broadcast,
}


def main(which: str, upstream: str) -> None:
    """Serve on a free port, which is printed."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        print(listener.getsockname()[1], flush=True)
        app = REFERENCES[which](upstream)
        options: Mapping[str, Any] = {"ws": "websockets-sansio", "ws_per_message_deflate": False}
        config = uvicorn.Config(app, loop="uvloop", http="httptools", log_level="error", access_log=False, **options)
        uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
