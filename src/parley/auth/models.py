"""The tables of accounts: sites, people, their sessions, and the refresh tokens of a session."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, String, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from parley.core.models import Base, Identified, Timestamped


class Site(Identified, Timestamped, Base):
    """A web site that carries the widget: its public key, where its pages are, and the secret its server signs with."""

    __tablename__ = "sites"

    name: Mapped[str] = mapped_column(String(100))
    key: Mapped[str] = mapped_column(String(64), unique=True)
    secret: Mapped[str] = mapped_column(String(64))
    """As it is: a signature is checked with the same bytes it was made with."""
    secret_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """Since when the secret is this one: sessions that began before are not renewed."""
    origins: Mapped[list[str]] = mapped_column(ARRAY(String(255)))
    disabled_at: Mapped[datetime | None]


class User(Identified, Timestamped, Base):
    """A person: registered with an e-mail address, named by a site's server, or a guest of the widget."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('user', 'operator', 'admin')", name="role_known"),
        CheckConstraint("(email IS NULL) = (password_hash IS NULL)", name="email_with_password"),
        # Whoever a site names is among them: what a site's server says never gives power here.
        CheckConstraint("email IS NOT NULL OR role = 'user'", name="guest_without_power"),
        CheckConstraint("(site_id IS NULL) = (external_id IS NULL)", name="site_with_external_id"),
        CheckConstraint("site_id IS NULL OR email IS NULL", name="site_or_account"),
        UniqueConstraint("site_id", "external_id"),
    )

    email: Mapped[str | None] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    password_hash: Mapped[str | None] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16))
    disabled_at: Mapped[datetime | None]
    site_id: Mapped[UUID | None] = mapped_column(ForeignKey("sites.id"))
    external_id: Mapped[str | None] = mapped_column(String(255))
    """Who it is to the site's server."""
    contact_email: Mapped[str | None] = mapped_column(String(254))
    """What the site's server says: shown, never proven, never signed in with."""

    @property
    def is_guest(self) -> bool:
        return self.email is None and self.site_id is None


class Session(Identified, Timestamped, Base):
    """One sign-in on one device: the family of all refresh tokens that came from it."""

    __tablename__ = "sessions"
    __table_args__ = (
        # What every worker reads again every few seconds.
        Index("ix_sessions_revoked_at", "revoked_at", postgresql_where=text("revoked_at IS NOT NULL")),
    )

    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    """None once its user was erased: its tokens outlive that for minutes, and are refused by this row."""
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
