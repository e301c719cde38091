"""Every query on agents, summaries and the books. Each takes the session of the service's transaction."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, column, exists, func, select, table, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from parley.agents.models import Agent, AgentVersion, ConversationSummary, ModelCall

_NEWEST = and_(AgentVersion.agent_id == Agent.id, AgentVersion.version == Agent.version)
# Of chat, by name only.
_CONVERSATIONS = table("conversations", column("id"), column("deleted_at"))
_MESSAGES = table("messages", column("conversation_id"), column("seq"), column("rev"))


async def find_agent(db: AsyncSession, name: str) -> Row[Agent, AgentVersion] | None:
    """Return an agent with its newest version."""
    query = select(Agent, AgentVersion).join(AgentVersion, _NEWEST).where(Agent.name == name)
    return (await db.execute(query)).one_or_none()


async def find_agent_id(db: AsyncSession, name: str) -> UUID | None:
    return await db.scalar(select(Agent.id).where(Agent.name == name))


async def list_agents(
    db: AsyncSession, limit: int, after: UUID | None, before: UUID | None
) -> Sequence[Row[Agent, AgentVersion]]:
    """Return agents in the order they were made: those after a place, or the last ones before it."""
    query = select(Agent, AgentVersion).join(AgentVersion, _NEWEST).limit(limit)
    if before is not None:
        rows = (await db.execute(query.where(Agent.id < before).order_by(Agent.id.desc()))).all()
        return rows[::-1]
    if after is not None:
        query = query.where(Agent.id > after)
    return (await db.execute(query.order_by(Agent.id))).all()


async def insert_agent(db: AsyncSession, name: str) -> UUID | None:
    """Insert an agent without a version; None where one of that name exists."""
    query = insert(Agent).values(name=name, version=0).on_conflict_do_nothing(index_elements=["name"])
    return await db.scalar(query.returning(Agent.id))


async def add_version(
    db: AsyncSession, agent_id: UUID, definition: Mapping[str, Any], created_by: UUID | None
) -> Row[int, AgentVersion]:
    """Insert the next version and make it the newest; the agent's row is locked by it."""
    raised = update(Agent).where(Agent.id == agent_id).values(version=Agent.version + 1).returning(Agent.version)
    version = (await db.scalars(raised)).one()
    query = insert(AgentVersion).values(
        agent_id=agent_id, version=version, definition=definition, created_by=created_by
    )
    return (await db.execute(query.returning(AgentVersion.version, AgentVersion))).one()


async def find_summary(db: AsyncSession, conversation_id: UUID) -> Row[int, str] | None:
    """Return how far the summary of a conversation reaches, and the summary."""
    query = select(ConversationSummary.through_seq, ConversationSummary.content)
    return (await db.execute(query.where(ConversationSummary.conversation_id == conversation_id))).one_or_none()


async def store_summary(
    db: AsyncSession, conversation_id: UUID, through_seq: int, content: str, as_of_rev: int | None
) -> bool:
    """Store a summary unless one reaches as far, or what it is of has gone or changed; return whether it was stored."""
    # Locked against who removes it, or somebody's words: they find this summary, or this waits and finds that gone.
    is_there = select(_CONVERSATIONS.c.id).where(
        _CONVERSATIONS.c.id == conversation_id, _CONVERSATIONS.c.deleted_at.is_(None)
    )
    if await db.scalar(is_there.with_for_update(read=True)) is None:
        return False
    of_it = and_(_MESSAGES.c.conversation_id == conversation_id, _MESSAGES.c.seq <= through_seq)
    if as_of_rev is not None and await db.scalar(select(exists().where(of_it, _MESSAGES.c.rev > as_of_rev))):
        return False
    query = insert(ConversationSummary).values(
        conversation_id=conversation_id, through_seq=through_seq, content=content
    )
    query = query.on_conflict_do_update(
        index_elements=["conversation_id"],
        set_={"through_seq": query.excluded.through_seq, "content": query.excluded.content, "updated_at": func.now()},
        where=ConversationSummary.through_seq < query.excluded.through_seq,
    )
    return await db.scalar(query.returning(ConversationSummary.through_seq)) is not None


async def insert_calls(db: AsyncSession, calls: Sequence[Mapping[str, Any]]) -> None:
    """Insert calls of models; those that are there are left as they are."""
    query = insert(ModelCall).on_conflict_do_nothing(index_elements=["id"])
    await (await db.connection()).execute(query, list(calls))


async def list_calls(
    db: AsyncSession,
    *,
    conversation_id: UUID | None,
    message_id: UUID | None,
    limit: int,
    after: UUID | None,
    before: UUID | None,
) -> Sequence[ModelCall]:
    """Return calls of models, newest first: those behind a place, or the last ones before it."""
    query = select(ModelCall).limit(limit)
    if conversation_id is not None:
        query = query.where(ModelCall.conversation_id == conversation_id)
    if message_id is not None:
        query = query.where(ModelCall.message_id == message_id)
    if before is not None:
        return (await db.scalars(query.where(ModelCall.id > before).order_by(ModelCall.id))).all()[::-1]
    if after is not None:
        query = query.where(ModelCall.id < after)
    return (await db.scalars(query.order_by(ModelCall.id.desc()))).all()
