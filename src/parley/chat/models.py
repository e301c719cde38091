"""The tables of chat: conversations, their messages (a reply is one of them), participants, and the workers alive."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Computed,
    ForeignKey,
    FromClause,
    Index,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from parley.core.models import Base, Identified, Timestamped

LIVE = ("queued", "streaming", "stopping")
ENDED = ("complete", "stopped", "failed")
_LIVE_SQL = text("status IN ('queued', 'streaming', 'stopping')")


class Conversation(Identified, Timestamped, Base):
    """A conversation; its row is locked first by whoever changes anything in it."""

    __tablename__ = "conversations"
    __table_args__ = (
        CheckConstraint("mode IN ('ai', 'human')", name="mode_known"),
        UniqueConstraint("owner_id", "client_id"),
        Index("ix_conversations_owner_id_active_at", "owner_id", "active_at", "id"),
        # What operators list.
        Index("ix_conversations_active_at", "active_at", "id"),
        # What is to be removed for good.
        Index("ix_conversations_deleted_at", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(String(200), server_default="")
    mode: Mapped[str] = mapped_column(String(8), server_default="ai")
    agent: Mapped[str | None] = mapped_column(String(64))
    client_id: Mapped[str | None] = mapped_column(String(64))
    client_sha256: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    """Of what was asked for with it: title and agent change later."""
    rev: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The last one taken: every committed change that a viewer can see takes the next."""
    meta_rev: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Of title, mode, archive and completion."""
    last_seq: Mapped[int] = mapped_column(server_default="0")
    active_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    archived_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]


class Message(Identified, Timestamped, Base):
    """What somebody said, or a reply: written by attempts, owned by a worker while it is live."""

    __tablename__ = "messages"
    __table_args__ = (
        CheckConstraint("role IN ('user', 'assistant', 'operator', 'notice')", name="role_known"),
        CheckConstraint(
            "status IN ('queued', 'streaming', 'stopping', 'complete', 'stopped', 'failed')", name="status_known"
        ),
        UniqueConstraint("conversation_id", "seq"),
        UniqueConstraint("author_id", "client_id"),
        Index("ix_messages_conversation_id_rev", "conversation_id", "rev"),
        Index(
            "uq_messages_one_streaming",
            "conversation_id",
            unique=True,
            postgresql_where=text("status IN ('streaming', 'stopping')"),
        ),
        # What every worker's beat and poll read twice a second: short, whatever is stored.
        Index("ix_messages_live", "owner", postgresql_where=_LIVE_SQL),
        Index("ix_messages_rated_by", "rated_by", postgresql_where=text("rated_by IS NOT NULL")),
    )

    conversation_id: Mapped[UUID] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    seq: Mapped[int]
    rev: Mapped[int] = mapped_column(BigInteger)
    role: Mapped[str] = mapped_column(String(16))
    content: Mapped[str] = mapped_column(server_default="")
    status: Mapped[str] = mapped_column(String(16), server_default="complete")
    author_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    author_name: Mapped[str | None] = mapped_column(String(100))
    client_id: Mapped[str | None] = mapped_column(String(64))
    """Of the question, or of the command that asked for this reply anew."""
    replaces: Mapped[UUID | None]
    """The message this one stands for in the context from now on."""
    question_id: Mapped[UUID | None]
    """Of a reply: what it answers."""

    # Of replies only.
    attempt: Mapped[int] = mapped_column(server_default="0")
    owner: Mapped[UUID | None]
    """The boot id of the worker that writes it."""
    takeovers: Mapped[int] = mapped_column(server_default="0")
    """From dead workers; the third is the last."""
    agent: Mapped[str | None] = mapped_column(String(64))
    agent_version: Mapped[int | None]
    model: Mapped[str | None] = mapped_column(String(128))
    steps: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    """Whole, as the model saw them: for the attempts and turns that follow, never for viewers."""
    shown_steps: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    """What viewers were told of them."""
    sources: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    finish_reason: Mapped[str | None] = mapped_column(String(32))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(String(500))
    is_retryable: Mapped[bool | None]
    content_length: Mapped[int | None]
    content_sha256: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    tape_end: Mapped[int | None]
    """Where the last attempt's tape ends."""
    ended_rev: Mapped[int | None] = mapped_column(BigInteger)
    ended_at: Mapped[datetime | None]
    rating: Mapped[str | None] = mapped_column(String(8))
    rating_comment: Mapped[str | None] = mapped_column(String(2000))
    rated_by: Mapped[UUID | None]
    """Whose words the comment is; None for those of before this was noted."""


class Participant(Timestamped, Base):
    """Somebody who was invited; owner and operators need no row."""

    __tablename__ = "participants"

    conversation_id: Mapped[UUID] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    invited_by: Mapped[UUID | None]


class WorkerRow(Timestamped, Base):
    """A worker that is alive as long as its counter moves."""

    __tablename__ = "workers"

    boot_id: Mapped[UUID] = mapped_column(primary_key=True)
    beat: Mapped[int] = mapped_column(BigInteger, server_default="0")


# Scripts that put no blanks between words: for search each of their characters is a word.
WITHOUT_BLANKS = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\U00020000-\U0003ffff]"


def _add_search(table: FromClause, column: str) -> Column[Any]:
    """Give a table what its column is found by; of long texts only the beginning, for PostgreSQL takes no more.

    Not mapped: no row that is read drags it along.
    """
    beginning = f'"left"(({column})::text, 32768)'
    spaced = f"regexp_replace({beginning}, '({WITHOUT_BLANKS})'::text, ' \\1 '::text, 'g'::text)"
    words = Computed(f"to_tsvector('simple'::regconfig, {spaced})", persisted=True)
    search: Column[Any] = Column("search", TSVECTOR, words)
    cast("Table", table).append_column(search)
    Index(None, search, postgresql_using="gin")
    return search


TITLE_SEARCH = _add_search(Conversation.__table__, "title")
CONTENT_SEARCH = _add_search(Message.__table__, "content")
