"""Conversations, messages, participants, and the workers that are alive."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

NOW = sa.text("now()")
# Scripts that put no blanks between words: for search each of their characters is a word.
WITHOUT_BLANKS = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\U00020000-\U0003ffff]"


def search_column(column: str) -> sa.Column:
    beginning = f'"left"(({column})::text, 32768)'
    spaced = f"regexp_replace({beginning}, '({WITHOUT_BLANKS})'::text, ' \\1 '::text, 'g'::text)"
    words = f"to_tsvector('simple'::regconfig, {spaced})"
    return sa.Column("search", postgresql.TSVECTOR(), sa.Computed(words, persisted=True), nullable=True)


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.String(200), server_default="", nullable=False),
        sa.Column("mode", sa.String(8), server_default="ai", nullable=False),
        sa.Column("agent", sa.String(64), nullable=True),
        sa.Column("client_id", sa.String(64), nullable=True),
        sa.Column("client_sha256", sa.LargeBinary(32), nullable=True),
        sa.Column("rev", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("meta_rev", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_seq", sa.Integer(), server_default="0", nullable=False),
        sa.Column("active_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        search_column("title"),
        sa.CheckConstraint("mode IN ('ai', 'human')", name=op.f("ck_conversations_mode_known")),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name=op.f("fk_conversations_owner_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversations")),
        sa.UniqueConstraint("owner_id", "client_id", name=op.f("uq_conversations_owner_id_client_id")),
    )
    op.create_index("ix_conversations_owner_id_active_at", "conversations", ["owner_id", "active_at", "id"])
    op.create_index(op.f("ix_conversations_search"), "conversations", ["search"], postgresql_using="gin")
    op.create_index("ix_conversations_active_at", "conversations", ["active_at", "id"])
    op.create_table(
        "messages",
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("rev", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("content", sa.String(), server_default="", nullable=False),
        sa.Column("status", sa.String(16), server_default="complete", nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=True),
        sa.Column("author_name", sa.String(100), nullable=True),
        sa.Column("client_id", sa.String(64), nullable=True),
        sa.Column("replaces", sa.Uuid(), nullable=True),
        sa.Column("question_id", sa.Uuid(), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=True),
        sa.Column("takeovers", sa.Integer(), server_default="0", nullable=False),
        sa.Column("agent", sa.String(64), nullable=True),
        sa.Column("agent_version", sa.Integer(), nullable=True),
        sa.Column("model", sa.String(128), nullable=True),
        sa.Column("steps", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("shown_steps", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("sources", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("finish_reason", sa.String(32), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error_message", sa.String(500), nullable=True),
        sa.Column("is_retryable", sa.Boolean(), nullable=True),
        sa.Column("content_length", sa.Integer(), nullable=True),
        sa.Column("content_sha256", sa.LargeBinary(32), nullable=True),
        sa.Column("tape_end", sa.Integer(), nullable=True),
        sa.Column("ended_rev", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rating", sa.String(8), nullable=True),
        sa.Column("rating_comment", sa.String(2000), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        search_column("content"),
        sa.CheckConstraint("role IN ('user', 'assistant', 'operator', 'notice')", name=op.f("ck_messages_role_known")),
        sa.CheckConstraint(
            "status IN ('queued', 'streaming', 'stopping', 'complete', 'stopped', 'failed')",
            name=op.f("ck_messages_status_known"),
        ),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_messages_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["author_id"], ["users.id"], name=op.f("fk_messages_author_id_users"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
        sa.UniqueConstraint("conversation_id", "seq", name=op.f("uq_messages_conversation_id_seq")),
        sa.UniqueConstraint("author_id", "client_id", name=op.f("uq_messages_author_id_client_id")),
    )
    op.create_index("ix_messages_conversation_id_rev", "messages", ["conversation_id", "rev"])
    op.create_index(op.f("ix_messages_search"), "messages", ["search"], postgresql_using="gin")
    op.create_index(
        "uq_messages_one_streaming",
        "messages",
        ["conversation_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('streaming', 'stopping')"),
    )
    op.create_index(
        "ix_messages_live",
        "messages",
        ["owner"],
        postgresql_where=sa.text("status IN ('queued', 'streaming', 'stopping')"),
    )
    op.create_table(
        "participants",
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("invited_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_participants_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_participants_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("conversation_id", "user_id", name=op.f("pk_participants")),
    )
    op.create_index(op.f("ix_participants_user_id"), "participants", ["user_id"])
    op.create_table(
        "workers",
        sa.Column("boot_id", sa.Uuid(), nullable=False),
        sa.Column("beat", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("boot_id", name=op.f("pk_workers")),
    )


def downgrade() -> None:
    for table in ("workers", "participants", "messages", "conversations"):
        op.drop_table(table)
