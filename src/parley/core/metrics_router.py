"""`/metrics` for Prometheus, and a way to hold the loop on purpose, for development."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from starlette.requests import HTTPConnection

from parley.core.errors import NotFound
from parley.core.exposition import MEDIA_TYPE, Exposition
from parley.core.limits import Unlimited
from parley.core.ops import Ops

router = APIRouter(include_in_schema=False)
debug = APIRouter(include_in_schema=False)
MOST_BLOCKED_S = 60.0


async def _only_ops(connection: HTTPConnection) -> None:
    """To all others there is nothing here."""
    ops: Ops = connection.state.ops
    if not ops.may_look(connection):
        raise NotFound


async def _exposition(connection: HTTPConnection) -> Exposition:
    exposition: Exposition = connection.state.exposition
    return exposition


OnlyOps = Annotated[None, Depends(_only_ops)]


@router.get("/metrics")
async def metrics(_: Unlimited, __: OnlyOps, exposition: Annotated[Exposition, Depends(_exposition)]) -> Response:
    """Tell what is counted, summed over the workers of this machine."""
    return Response(await exposition.text(), media_type=MEDIA_TYPE)


@debug.post("/debug/block")
async def block(
    _: Unlimited,
    __: OnlyOps,
    seconds: Annotated[float, Query(gt=0, le=MOST_BLOCKED_S)],
    origin: Annotated[str | None, Header()] = None,
) -> Response:
    """Hold the event loop of the worker that answers. Only mounted in development; not for pages in a browser."""
    if origin is not None:
        raise NotFound
    time.sleep(seconds)  # noqa: ASYNC251, TID251  # which is the point
    return Response(status_code=204)
