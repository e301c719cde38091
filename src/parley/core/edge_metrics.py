"""Counts requests and sockets at the edge: by route template, never by path. Costs nothing per frame of our own server.

Knows nothing of what they are about.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parley.core.metrics import Metrics
from parley.core.websocket_protocol import Stay

NO_ROUTE = "none"
STREAM = "text/event-stream"
WRONG_METHOD = 405
LOST = 1006  # no close frame, as the protocol calls it


class EdgeMetrics:
    """What the outermost middleware tells."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._served: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        """What was looked up before: that costs more than the counting."""

    def begins(self, headers: Mapping[str, str]) -> bool:
        """Note an answer that begins; return whether it is an event stream, which `served` is to be told."""
        is_stream = headers.get("content-type", "").startswith(STREAM)
        if is_stream:
            self._metrics.http_streams_open.inc()
        return is_stream

    def served(self, scope: Scope, status: int, seconds: float, *, was_stream: bool) -> None:
        """Count a request that has ended."""
        metrics = self._metrics
        if was_stream:
            metrics.http_streams_open.dec()
        handler = _template(scope) if status != WRONG_METHOD else NO_ROUTE
        labels = metrics.methods.of(scope["method"]), handler, f"{status // 100}xx"
        found = self._served.get(labels)
        if found is None:
            found = metrics.http_requests.labels(*labels), metrics.http_duration.labels(*labels[:2])
            self._served[labels] = found
        found[0].inc()
        found[1].observe(seconds)

    async def serve_socket(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket and count how it began and ended."""
        metrics, refusal, code, is_open = self._metrics, 0, LOST, False

        async def note_sent(message: Message) -> None:
            nonlocal refusal, code, is_open
            await send(message)
            kind = message["type"]
            if kind == "websocket.accept":
                is_open = True
                metrics.ws_accepted.inc()
                metrics.ws_connections.inc()
            elif kind == "websocket.close":
                code, refusal = message.get("code", 1000), refusal or 403
            elif kind == "websocket.http.response.start":
                refusal = message["status"]

        async def note_received() -> Message:
            nonlocal code
            message = await receive()
            if message["type"] == "websocket.disconnect" and code == LOST:
                code = message.get("code", LOST)
            return message

        is_staying = False
        try:
            await app(scope, note_received, note_sent)
            extension = scope["extensions"].get("parley")
            if extension is not None and (stay := extension["stay"]) is not None:
                extension["stay"], is_staying = partial(self._stay, stay), True
        except BaseException as error:
            refusal = refusal or (503 if isinstance(error, asyncio.CancelledError) else 500)
            raise
        finally:
            if not is_staying:  # how it ends is counted then
                self._ended(code if is_open else None, refusal)

    async def _stay(self, stay: Stay) -> int:
        """Count the end of a socket whose application has set itself apart from us."""
        code = LOST
        try:
            code = await stay()
        finally:
            self._ended(code)
        return code

    def _ended(self, code: int | None, refusal: int = 0) -> None:
        """Count the end of one that was open, or its refusal; who left before either is neither."""
        metrics = self._metrics
        if code is not None:
            metrics.ws_connections.dec()
            metrics.ws_closed.labels(metrics.close_codes.of(code)).inc()
        elif refusal:
            metrics.ws_refused.labels(metrics.refusals.of(refusal)).inc()


def _template(scope: Scope) -> str:
    template: str | None = getattr(scope.get("route"), "path", None)
    return template or NO_ROUTE
