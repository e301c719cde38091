"""What admins are told of an erasure."""

from uuid import UUID

from parley.core.schemas import Schema


class ErasedView(Schema):
    """Somebody who was erased, and how much there was."""

    user_id: UUID
    removed: dict[str, int]
