"""One connection, over WebSocket or SSE: events until it ends. Does not come back; `Interrupted` says how to."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

from parley.chat.protocol import SUBPROTOCOL
from parley.client.comeback import Interrupted, of_close, of_status
from parley.client.events import Event, read_event
from parley.client.plain import OPEN_S, check, read_problem, unreachable
from parley.client.sse import MAX_EVENT_BYTES, SseEvent, SseParser, SseTooLarge

CLOSE_S = 2.0
PING_S = 20.0  # below the 25 s at which the server does the same
SILENCE_S = 45.0  # three of the server's comments
DONE = "[DONE]"
Headers = Mapping[str, str]


class Leaving:
    """When a server that drains asked us to leave."""

    def __init__(self) -> None:
        self._at: float | None = None

    def note(self, event: Event) -> None:
        """Take what an event says about it."""
        if event.type == "draining":
            self._at = asyncio.get_running_loop().time() + float(event.data["reconnect_in_ms"]) / 1000

    def left_s(self) -> float | None:
        """Return how long we may stay, None for as long as we like."""
        return None if self._at is None else max(self._at - asyncio.get_running_loop().time(), 0.0)

    def ended(self, ended: Interrupted) -> Interrupted:
        """Return the same end, with the wait the server asked for."""
        if self._at is not None and ended.move == "come_back":
            ended.wait_s = self.left_s()
        return ended


@asynccontextmanager
async def open_socket(url: str, headers: Headers) -> AsyncGenerator[ClientConnection]:
    """Open a WebSocket; raises Interrupted where that fails."""
    opening = connect(
        url,
        additional_headers=headers,
        subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]  # a NewType of str
        compression=None,
        open_timeout=OPEN_S,
        close_timeout=CLOSE_S,
        ping_interval=PING_S,
        ping_timeout=PING_S,
        max_size=MAX_EVENT_BYTES,
    )
    try:
        socket = await opening
    except InvalidStatus as error:
        response = error.response
        code, message = read_problem(response.status_code, bytes(response.body or b""))
        raise of_status(response.status_code, response.headers, code, message) from None
    except (OSError, TimeoutError, InvalidHandshake) as error:
        raise unreachable(error) from None
    try:
        yield socket
    finally:
        await socket.close()


async def socket_events(socket: ClientConnection) -> AsyncGenerator[Event]:
    """Yield what comes; always ends with Interrupted."""
    leaving = Leaving()
    while True:
        try:
            async with asyncio.timeout(leaving.left_s()):
                text = await socket.recv()
        except TimeoutError:
            raise leaving.ended(Interrupted("come_back", "draining", "The server goes away.")) from None
        except ConnectionClosed as error:
            code, reason = (1006, "") if error.rcvd is None else (error.rcvd.code, error.rcvd.reason)
            raise leaving.ended(of_close(code, reason)) from None
        except WebSocketException as error:
            raise unreachable(error) from None
        if (event := read_event(text)) is not None:
            leaving.note(event)
            yield event


async def stream_events(
    http: httpx.AsyncClient, method: str, url: str, *, headers: Headers, body: Mapping[str, Any] | None = None
) -> AsyncGenerator[Event]:
    """Yield the events of one SSE response; returns at `[DONE]`, ends with Interrupted everywhere else."""
    timeout = httpx.Timeout(OPEN_S, read=SILENCE_S)
    last_error: Event | None = None
    leaving = Leaving()
    try:
        async with http.stream(method, url, headers=headers, json=body, timeout=timeout) as response:
            if not response.is_success:
                await response.aread()
                check(response)
            async with aclosing(_sse_events(response, leaving)) as events:
                async for event in events:
                    if event is None:
                        return
                    leaving.note(event)
                    last_error = event if event.type == "error" else None
                    yield event
    except TimeoutError:
        raise leaving.ended(Interrupted("come_back", "draining", "The server goes away.")) from None
    except (httpx.HTTPError, SseTooLarge) as error:
        raise leaving.ended(unreachable(error)) from None
    raise leaving.ended(_told(last_error))


async def _sse_events(response: httpx.Response, leaving: Leaving) -> AsyncGenerator[Event | None]:
    parser = SseParser()
    chunks = response.aiter_bytes()
    while True:
        async with asyncio.timeout(leaving.left_s()):
            data = await anext(chunks, None)
        if data is None:
            return
        for found in parser.feed(data):
            if found.data == DONE:
                yield None
            elif (event := _read(found)) is not None:
                yield event


def _read(found: SseEvent) -> Event | None:
    event = read_event(found.data)
    # Events that carry no cursor come without an id of their own; the one before them still holds.
    return None if event is None else Event(event.type, event.data, found.id)


def _told(error: Event | None) -> Interrupted:
    """Return why a stream ended: because of the error told last, or for no reason it told."""
    if error is None:
        return Interrupted("come_back", "stream_ended", "The stream ended early.")
    detail = error.data["error"]
    if detail["code"] == "token_expired":
        return Interrupted("renew", detail["code"], detail["message"])
    return Interrupted("come_back" if detail["retryable"] else "stay_away", detail["code"], detail["message"])
