"""Routers that read JSON the way we promise: strict, bounded in depth, the same failure for everything malformed."""

import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response


class _JsonRequest(Request):
    async def json(self) -> Any:
        """Parse the body: no NaN, no lone surrogate, no bottomless nesting (pydantic's parser bounds it)."""
        if not hasattr(self, "_json"):
            try:
                self._json = from_json(await self.body(), allow_inf_nan=False)
            except ValueError:
                # FastAPI turns this one into a validation error; the text of the other would repeat the input.
                raise json.JSONDecodeError("invalid", "", 0) from None
        return self._json


class JsonRoute(APIRoute):
    """A route whose body is read by our own parser."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Hand the original handler a request that parses strictly."""
        handle = super().get_route_handler()

        async def with_strict_json(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return with_strict_json


def api_router(prefix: str, tag: str) -> APIRouter:
    """Return a router of one domain."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=JsonRoute)


def api_routes(app: FastAPI) -> Iterator[RouteContext]:
    """Yield every route of ours with its full path, through the routers that FastAPI includes lazily."""
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute):
            yield route
