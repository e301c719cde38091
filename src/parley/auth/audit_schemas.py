"""What admins are told of the audit trail."""

from typing import Any
from uuid import UUID

from parley.core.audit import AuditEntry
from parley.core.schemas import Moment, Schema


class AuditView(Schema):
    """Who did or read what. What `subject_id` names the action tells: a user, a site, an agent, a conversation."""

    id: UUID
    created_at: Moment
    action: str
    actor_id: UUID | None
    actor_role: str | None
    subject_id: UUID | None
    address: str | None
    request_id: str | None
    detail: dict[str, Any]

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditView":
        return cls(**{name: getattr(entry, name) for name in cls.model_fields})
