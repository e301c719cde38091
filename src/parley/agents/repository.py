"""Every query on agents. Each takes the session of the service's transaction."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from parley.agents.models import Agent, AgentVersion

_NEWEST = and_(AgentVersion.agent_id == Agent.id, AgentVersion.version == Agent.version)


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
