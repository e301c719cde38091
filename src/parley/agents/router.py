"""Agents over HTTP, for admins: editing never changes a version, it makes the next one. For operators, the books."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Query

from parley.agents.calls_schemas import CallView
from parley.agents.dependencies import Calls, Service
from parley.agents.schemas import AgentCommand, AgentView
from parley.auth.dependencies import Admin, Operator
from parley.core.limits import General, Lists
from parley.core.problems import problems
from parley.core.routing import api_router
from parley.core.schemas import Page

router = api_router("/agents", "agents")
Name = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_-]{0,63}$", examples=["support"])]


@router.get("", responses=problems(401, 403))
async def list_agents(
    _: Lists,
    _admin: Admin,
    service: Service,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: UUID | None = None,
    before: UUID | None = None,
) -> Page[AgentView]:
    """List agents, oldest first."""
    return await service.list_agents(limit, after, before)


# No agent can be named `-`, so this stands in nobody's way.
@router.get("/-/calls", responses=problems(401, 403))
async def list_model_calls(
    _: Lists,
    operator: Operator,
    calls: Calls,
    *,
    conversation_id: UUID | None = None,
    message_id: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: UUID | None = None,
    before: UUID | None = None,
) -> Page[CallView]:
    """List the calls of models with what they used, newest first; stored about a second after they end."""
    return await calls.list_calls(
        conversation_id=conversation_id,
        message_id=message_id,
        limit=limit,
        after=after,
        before=before,
        reader=operator,
    )


@router.get("/{name}", responses=problems(401, 403, 404))
async def get_agent(_: General, _admin: Admin, service: Service, name: Name) -> AgentView:
    """Read an agent at its newest version."""
    return await service.get_agent(name)


@router.put("/{name}", responses=problems(401, 403, 404))
async def write_agent(_: General, admin: Admin, service: Service, name: Name, command: AgentCommand) -> AgentView:
    """Write an agent: a new version, from which the next reply on answers."""
    return await service.write_agent(name, command, admin.user_id)
