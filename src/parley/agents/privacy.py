"""What agents hold of a person, and for how long: queries for export, erasure and retention, and the shared keys.

The books are kept without names: what a model cost is the house's business, whom it answered is not.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, column, delete, select, table, update
from sqlalchemy.ext.asyncio import AsyncSession

from parley.agents.models import AgentVersion, ConversationSummary, ModelCall
from parley.agents.scripts import tagged

NOBODY = UUID(int=0)
# Nobody can tell whose words a kept answer repeats, so all of them go.
CACHE_KEYS = tagged("cache")
_NAMELESS = {"conversation_id": NOBODY, "message_id": NOBODY, "user_id": NOBODY}
# Of chat, by name only.
_CONVERSATIONS = table("conversations", column("id"))


async def list_calls(db: AsyncSession, user_id: UUID, after: UUID | None, limit: int) -> Sequence[RowMapping]:
    """Return the calls of models that somebody's questions made, oldest first."""
    query = select(*ModelCall.__table__.columns).where(ModelCall.user_id == user_id).order_by(ModelCall.id)
    query = query.where(ModelCall.id > after) if after else query
    return (await db.execute(query.limit(limit))).mappings().all()


async def list_summaries(db: AsyncSession, conversation_ids: Sequence[UUID]) -> Sequence[RowMapping]:
    """Return what conversations were summed up to."""
    query = select(*ConversationSummary.__table__.columns)
    query = query.where(ConversationSummary.conversation_id.in_(conversation_ids))
    return (await db.execute(query)).mappings().all()


async def list_versions(db: AsyncSession, user_id: UUID) -> Sequence[RowMapping]:
    """Return which versions of agents somebody wrote; what is in them is the house's."""
    columns = (AgentVersion.agent_id, AgentVersion.version, AgentVersion.created_at)
    query = select(*columns).where(AgentVersion.created_by == user_id).order_by(AgentVersion.id)
    return (await db.execute(query)).mappings().all()


async def drop_summaries(db: AsyncSession, conversation_ids: Sequence[UUID]) -> int:
    """Remove what was made of these conversations."""
    theirs = ConversationSummary.conversation_id.in_(conversation_ids)
    query = delete(ConversationSummary).where(theirs).returning(ConversationSummary.conversation_id)
    return len((await db.execute(query)).all())


async def forget_conversations(db: AsyncSession, conversation_ids: Sequence[UUID]) -> Mapping[str, int]:
    """Remove what was made of these conversations, and let the books forget which they were."""
    return {
        "summaries": await drop_summaries(db, conversation_ids),
        "model_calls_made_nameless": await _make_nameless(db, ModelCall.conversation_id.in_(conversation_ids)),
    }


async def forget_person(db: AsyncSession, user_id: UUID) -> Mapping[str, int]:
    """Let books and versions forget somebody."""
    await db.execute(update(AgentVersion).where(AgentVersion.created_by == user_id).values(created_by=None))
    return {"model_calls_made_nameless": await _make_nameless(db, ModelCall.user_id == user_id)}


async def forget_strays(db: AsyncSession, after: UUID, limit: int, *, is_dry: bool) -> tuple[UUID | None, int]:
    """Make calls nameless that were booked after their conversation had gone; a stretch of the books at a time."""
    page = (
        await db.execute(
            select(ModelCall.id, ModelCall.conversation_id)
            .where(ModelCall.id > after)
            .order_by(ModelCall.id)
            .limit(limit)
        )
    ).all()
    named = {conversation_id for _, conversation_id in page if conversation_id != NOBODY}
    known = set(await db.scalars(select(_CONVERSATIONS.c.id).where(_CONVERSATIONS.c.id.in_(named)))) if named else set()
    strays = [call_id for call_id, conversation_id in page if conversation_id in named - known]
    if strays and not is_dry:
        await _make_nameless(db, ModelCall.id.in_(strays))
    return (page[-1][0] if page else None), len(strays)


def shared_keys_name(user_id: UUID) -> str:
    """Return what begins the keys of somebody's budget."""
    return tagged("budget", str(user_id))


async def _make_nameless(db: AsyncSession, which: ColumnElement[bool]) -> int:
    return len((await db.execute(update(ModelCall).where(which).values(_NAMELESS).returning(ModelCall.id))).all())
