"""The tables of accounts: people, their sessions, the refresh tokens of a session, and the audit log."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from parley.core.models import Base, Identified, Timestamped


class User(Identified, Timestamped, Base):
    """A person: registered with an e-mail address, or a guest of the widget without one."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('user', 'operator', 'admin')", name="role_known"),
        CheckConstraint("(email IS NULL) = (password_hash IS NULL)", name="email_with_password"),
        CheckConstraint("email IS NOT NULL OR role = 'user'", name="guest_without_power"),
    )

    email: Mapped[str | None] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    password_hash: Mapped[str | None] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16))
    disabled_at: Mapped[datetime | None]

    @property
    def is_guest(self) -> bool:
        return self.email is None


class Session(Identified, Timestamped, Base):
    """One sign-in on one device: the family of all refresh tokens that came from it."""

    __tablename__ = "sessions"
    __table_args__ = (
        # What every worker reads again every few seconds.
        Index("ix_sessions_revoked_at", "revoked_at", postgresql_where=text("revoked_at IS NOT NULL")),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    revoked_reason: Mapped[str | None] = mapped_column(String(32))


class RefreshToken(Timestamped, Base):
    """A refresh token by its hash; used once."""

    __tablename__ = "refresh_tokens"

    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class AuditEntry(Identified, Timestamped, Base):
    """Who did what to whom; never changed, and outlives the account it speaks of."""

    __tablename__ = "audit_log"

    action: Mapped[str] = mapped_column(String(64))
    actor_id: Mapped[UUID | None] = mapped_column(index=True)
    subject_id: Mapped[UUID | None] = mapped_column(index=True)
    address: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str | None] = mapped_column(String(64))
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
