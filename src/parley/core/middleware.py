"""The edge, in pure ASGI: who calls and under which id, one log line a request, safe headers, bounded bodies.

Costs nothing per streamed chunk beyond a function call, and sees sockets too.
"""

import asyncio
import re
import time
from http import HTTPStatus
from random import random

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parley.core.audit import Caller, bind_caller
from parley.core.client_address import client_address
from parley.core.edge_metrics import EdgeMetrics
from parley.core.error_handlers import error_response
from parley.core.errors import AppError, BodyTimeout, PayloadTooLarge
from parley.core.ids import new_id
from parley.core.instruments import Instruments
from parley.core.schemas import ErrorDetail
from parley.core.settings import ServerSettings

log = structlog.get_logger("parley.access")

REQUEST_STORES = 2  # with the spans of a turn that makes eight at most
# What probes and scrapes ask for all day, and the many small files of a page with the widget.
NOISE = ("/health", "/metrics", "/widget")
MAX_LENGTH_DIGITS = 18  # more than any body has; thousands of digits are no number to Python
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{8,64}\Z")
# Nothing we answer is a page unless a route says otherwise; docs bring their own policy.
_SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
_HTTPS_ONLY = "max-age=31536000; includeSubDomains"


class RequestContext:
    """Outermost: gives each connection its id and client address, and each request its log line."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, instruments: Instruments) -> None:
        self._app = app
        self._trusted = settings.trusted_proxies
        self._noise = settings.log_noise
        self._telemetry = instruments.telemetry
        self._edge = EdgeMetrics(instruments.metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bind, pass on, report."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        client = scope["client_address"] = client_address(scope, self._trusted)
        scope["scheme"] = client.scheme if scope["type"] == "http" else client.scheme.replace("http", "ws")
        request_id = scope["request_id"] = _request_id(scope)
        # Cleared first: a connection that serves several requests must not carry one caller's ids into the next.
        structlog.contextvars.clear_contextvars()
        trace_id = scope["trace_id"] = self._telemetry.trace_id(scope)
        ids = {"request_id": request_id} if trace_id is None else {"request_id": request_id, "trace_id": trace_id}
        structlog.contextvars.bind_contextvars(**ids)
        bind_caller(Caller(str(client), request_id))
        if scope["type"] == "websocket":
            await self._edge.serve_socket(self._app, scope, receive, send)
            return
        started, status, is_stream = time.perf_counter(), 500, False
        stores = self._telemetry.stores("request", REQUEST_STORES)

        async def send_safely(message: Message) -> None:
            nonlocal status, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers["x-request-id"] = request_id
                for name, value in _SAFE_HEADERS.items():
                    headers.setdefault(name, value)
                if client.scheme == "https":
                    headers.setdefault("strict-transport-security", _HTTPS_ONLY)
                is_stream = self._edge.begins(headers)
                stores.settle()
            await send(message)

        try:
            await self._app(scope, receive, send_safely)
        finally:
            elapsed_s = time.perf_counter() - started
            self._edge.served(scope, status, elapsed_s, was_stream=is_stream)
            if status >= HTTPStatus.BAD_REQUEST or not self._is_noise(scope["path"]):
                log.info(
                    "request_served",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    ms=round(elapsed_s * 1000, 1),
                    client=str(client),
                )

    def _is_noise(self, path: str) -> bool:
        """Whether nobody misses the line of such a request, should it have gone well."""
        return path.startswith(NOISE) and random() >= self._noise  # noqa: S311  # a sample, no secret


class BodyLimit:
    """Refuses bodies that are too large or too slow, whatever their headers say, without holding them."""

    def __init__(self, app: ASGIApp, max_bytes: int, within_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._within_s = within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count and time what arrives."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or len(declared) > MAX_LENGTH_DIGITS or int(declared) > self._max_bytes:
            # The connection stays open: closed with a body on its way it would be reset, and the answer lost.
            await _refuse(PayloadTooLarge(), scope, receive, send)
            return
        received, is_complete, deadline = 0, False, asyncio.get_running_loop().time() + self._within_s

        async def receive_bounded() -> Message:
            nonlocal received, is_complete
            if is_complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise BodyTimeout(headers={"Connection": "close"}) from None
            received += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if received > self._max_bytes:
                raise PayloadTooLarge
            return message

        await self._app(scope, receive_bounded, send)


async def _refuse(error: AppError, scope: Scope, receive: Receive, send: Send) -> None:
    detail = ErrorDetail(code=error.code, message=error.message, retryable=error.retryable)
    response = error_response(Request(scope), error.status, detail)
    await response(scope, receive, send)


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _REQUEST_ID.match(given) else new_id().hex
