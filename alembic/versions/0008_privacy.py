"""Privacy: sessions that name nobody any more, who rated a reply, and what is to be removed for good is found."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.alter_column("sessions", "user_id", existing_type=sa.Uuid(), nullable=True)
    op.add_column("messages", sa.Column("rated_by", sa.Uuid(), nullable=True))
    op.create_index("ix_messages_rated_by", "messages", ["rated_by"], postgresql_where=sa.text("rated_by IS NOT NULL"))
    op.create_index(
        "ix_conversations_deleted_at",
        "conversations",
        ["deleted_at"],
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_conversations_deleted_at", "conversations")
    op.drop_index("ix_messages_rated_by", "messages")
    op.drop_column("messages", "rated_by")
    op.execute("DELETE FROM sessions WHERE user_id IS NULL")
    op.alter_column("sessions", "user_id", existing_type=sa.Uuid(), nullable=False)
