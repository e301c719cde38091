"""Export and erasure of people, for admins. Whoever wants their own asks those who run the service."""

import asyncio
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends
from fastapi.responses import StreamingResponse
from starlette.requests import HTTPConnection

from parley.auth.dependencies import Admin
from parley.core.limits import General
from parley.core.problems import problems
from parley.core.routing import api_router
from parley.core.tasks import Tasks
from parley.privacy.erasure import Erasure
from parley.privacy.export import Export
from parley.privacy.schemas import ErasedView

router = api_router("/auth", "auth")
_JSON: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"schema": {"type": "object"}}}}}


async def _export(connection: HTTPConnection) -> Export:
    export: Export = connection.state.export
    return export


async def _erasure(connection: HTTPConnection) -> Erasure:
    erasure: Erasure = connection.state.erasure
    return erasure


async def _tasks(connection: HTTPConnection) -> Tasks:
    tasks: Tasks = connection.state.tasks
    return tasks


@router.get("/users/{user_id}/export", response_class=StreamingResponse, responses={**problems(401, 403, 404), **_JSON})
async def export_user(
    _: General, admin: Admin, export: Annotated[Export, Depends(_export)], user_id: UUID
) -> StreamingResponse:
    """Hand out everything that is held about a person, as one JSON document."""
    return StreamingResponse(await export.read(user_id, admin), media_type="application/json")


@router.delete("/users/{user_id}", responses=problems(401, 403, 404))
async def erase_user(
    _: General,
    admin: Admin,
    erasure: Annotated[Erasure, Depends(_erasure)],
    tasks: Annotated[Tasks, Depends(_tasks)],
    user_id: UUID,
) -> ErasedView:
    """Erase a person with all that was said. Takes some seconds: what they opened is closed first. May be repeated."""
    await erasure.check(user_id)
    # Its own task: whoever hangs up does not stop it halfway.
    erasing = tasks.spawn("erase a person", erasure.erase(user_id, admin))
    return ErasedView(user_id=user_id, removed=dict(await asyncio.shield(erasing)))
