"""The tables of agents: each with its newest version, and every version there was."""

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from parley.core.models import Base, Identified, Timestamped


class Agent(Identified, Timestamped, Base):
    """An agent by name; its definition is that of its newest version."""

    __tablename__ = "agents"

    name: Mapped[str] = mapped_column(String(64), unique=True)
    version: Mapped[int]


class AgentVersion(Identified, Timestamped, Base):
    """What an agent was at one version; never changed, so that a reply can name what it ran on."""

    __tablename__ = "agent_versions"
    __table_args__ = (UniqueConstraint("agent_id", "version"),)

    agent_id: Mapped[UUID] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"))
    version: Mapped[int]
    definition: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_by: Mapped[UUID | None]
