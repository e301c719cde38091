"""The audit trail over HTTP, for admins. Nothing here changes it."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query
from starlette.requests import HTTPConnection

from parley.auth.audit_schemas import AuditView
from parley.auth.audit_service import AuditService, AuditWanted
from parley.auth.dependencies import Admin
from parley.core.limits import Lists
from parley.core.problems import problems
from parley.core.routing import api_router
from parley.core.schemas import Page

router = api_router("/auth", "auth")
Action = Annotated[str | None, Query(pattern=r"^[a-z_]{1,64}$", examples=["conversation_read"])]


async def _service(connection: HTTPConnection) -> AuditService:
    service: AuditService = connection.state.audit
    return service


@router.get("/audit", responses=problems(401, 403))
async def list_audit(
    _: Lists,
    admin: Admin,
    service: Annotated[AuditService, Depends(_service)],
    *,
    action: Action = None,
    actor_id: UUID | None = None,
    subject_id: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: UUID | None = None,
    before: UUID | None = None,
) -> Page[AuditView]:
    """List who did or read what as operator or admin, and what happened to accounts, newest first."""
    return await service.list_entries(admin, AuditWanted(action, actor_id, subject_id), limit, after, before)
