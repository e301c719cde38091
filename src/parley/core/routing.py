"""Routers that read JSON the way we promise: strict, bounded in depth, the same failure for everything malformed."""

import json
import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from parley.core.limits import charge

_MANY_DIGITS = re.compile(rb"\d{4300}")  # where Python draws the line


class _JsonRequest(Request):
    async def json(self) -> Any:
        """Parse the body: no NaN, no lone surrogate, no bottomless nesting (pydantic's parser bounds it)."""
        if not hasattr(self, "_json"):
            body = await self.body()
            try:
                if _MANY_DIGITS.search(body):
                    json.loads(body)  # refuses such a number at once; the parser below works on it for 70 ms
                self._json = from_json(body, allow_inf_nan=False)
            except (ValueError, RecursionError):
                # FastAPI turns this one into a validation error; the text of the other would repeat the input.
                raise json.JSONDecodeError("invalid", "", 0) from None
        return self._json


class JsonRoute(APIRoute):
    """A route whose body is read by our own parser."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Hand the original handler a request that parses strictly."""
        handle = super().get_route_handler()

        async def with_strict_json(request: Request) -> Response:
            try:
                return await handle(_JsonRequest(request.scope, request.receive))
            except (HTTPException, RequestValidationError):
                if not request.scope.get("limited"):
                    await charge(self.dependant, request)
                raise

        return with_strict_json


def api_router(prefix: str, tag: str) -> APIRouter:
    """Return a router of one domain."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=JsonRoute)


def build_routes(app: FastAPI) -> None:
    """Build every route now: FastAPI would do it inside the first request, and hold the loop for as long."""
    for _ in iter_route_contexts(app.routes):
        pass


def api_routes(app: FastAPI) -> Iterator[RouteContext]:
    """Yield every route of ours with its full path, through the routers that FastAPI includes lazily."""
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute):
            yield route
