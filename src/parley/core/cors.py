"""CORS as Starlette does it, with a refused preflight in the one error shape."""

from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from parley.core.error_handlers import error_response
from parley.core.origins import Origins
from parley.core.schemas import ErrorDetail

REFUSED = ErrorDetail(code="cors_refused", message="This page may not send such a request.", retryable=False)


class Cors(CORSMiddleware):
    """Answers preflights itself and marks what listed pages may read; the list changes while the service runs."""

    def __init__(self, app: ASGIApp, /, origins: Origins, **options: Any) -> None:
        super().__init__(app, **options)
        self._origins = origins

    def is_allowed_origin(self, origin: str) -> bool:
        """Whether a page of this origin may read."""
        return self._origins.allow(origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is no preflight."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        is_preflight = "origin" in headers and "access-control-request-method" in headers
        if not is_preflight or scope["method"] != "OPTIONS":
            await super().__call__(scope, receive, send)
            return
        response = self.preflight_response(headers)
        if (status := response.status_code) >= 400:  # noqa: PLR2004  # whichever failure it chose
            kept = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
            response = error_response(Request(scope), status, REFUSED, headers=kept)
        await response(scope, receive, send)
