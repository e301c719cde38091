"""The tables of agents: each with its newest version, every version there was, and the calls of models."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Numeric, String, Text, UniqueConstraint, func
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


class ConversationSummary(Base):
    """What the older messages of a conversation came to, for prompts they no longer fit in."""

    __tablename__ = "conversation_summaries"

    conversation_id: Mapped[UUID] = mapped_column(primary_key=True)
    through_seq: Mapped[int]
    content: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ModelCall(Identified, Timestamped, Base):
    """One call of a model, for the books. What it belongs to is named, not referred to: the books outlive it."""

    __tablename__ = "model_calls"
    __table_args__ = (Index(None, "conversation_id", "id"), Index(None, "user_id", "id"))

    conversation_id: Mapped[UUID]
    message_id: Mapped[UUID] = mapped_column(index=True)
    user_id: Mapped[UUID]
    agent: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(128))
    outcome: Mapped[str] = mapped_column(String(64))
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    is_estimated: Mapped[bool]
    is_cached: Mapped[bool]
    first_token_s: Mapped[float | None]
    total_s: Mapped[float]
    cost_usd: Mapped[Decimal | None] = mapped_column(Numeric(18, 10))
    """None for a model whose price is not known."""
