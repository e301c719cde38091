"""The one door to a conversation: loads it and checks the right to it. Absent and foreign answer the same.

Who comes through it by an operator's right alone is written into the audit trail, in the same transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, column, or_, select, table, true
from sqlalchemy.ext.asyncio import AsyncSession

from parley.auth.schemas import Identity
from parley.chat.errors import ConversationNotFound, MessageNotFound
from parley.chat.models import Conversation, Message, Participant
from parley.core import audit
from parley.core.database import Database

# Of auth, by name only.
USERS = table("users", column("id"), column("name"))


READ = "conversation_read"
# The same door for statements of the driver: $1 the conversation, $2 the caller, $3 whether an operator.
DOOR_SQL = (
    "c.id = $1 AND c.deleted_at IS NULL AND ($3 OR c.owner_id = $2 OR EXISTS ("
    "SELECT FROM participants p WHERE p.conversation_id = c.id AND p.user_id = $2))"
)


@dataclass(frozen=True, slots=True)
class Access:
    """A conversation that the caller may read and write."""

    conversation: Conversation
    user_name: str


def is_operator(identity: Identity) -> bool:
    """Whether somebody may open and write in every conversation."""
    return identity.role in {"operator", "admin"}


def record_foreign(
    db: AsyncSession,
    identity: Identity,
    conversation: Conversation,
    action: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Note what an operator does in somebody else's conversation; people in their own leave no trace."""
    if is_operator(identity) and conversation.owner_id != identity.user_id:
        audit.record(
            db,
            action,
            actor_id=identity.user_id,
            actor_role=identity.role,
            subject_id=conversation.id,
            detail=detail,
        )


async def record_opening(database: Database, identity: Identity, conversation: Conversation) -> None:
    """Note that somebody else's conversation is watched from now on: once, however much is seen."""
    if is_operator(identity) and conversation.owner_id != identity.user_id:
        async with database.transaction() as db:
            record_foreign(db, identity, conversation, READ, {"watched": True})


def doors_of(identity: Identity) -> Sequence[ColumnElement[bool]]:
    """Return what opens conversations to somebody: each alone is enough, and has an index to list by."""
    if is_operator(identity):
        return [true()]
    invited = select(Participant.conversation_id).where(Participant.user_id == identity.user_id)
    return [Conversation.owner_id == identity.user_id, Conversation.id.in_(invited)]


async def access_conversation(
    db: AsyncSession,
    conversation_id: UUID,
    identity: Identity,
    *,
    action: str = READ,
    detail: Mapping[str, Any] | None = None,
    for_update: bool = False,
) -> Access:
    """Return the conversation, locked if it is to be changed; raise ConversationNotFound.

    `action` is what an operator is noted to have done.
    """
    name = select(USERS.c.name).where(USERS.c.id == identity.user_id).scalar_subquery()
    query = select(Conversation, name).where(Conversation.id == conversation_id, Conversation.deleted_at.is_(None))
    query = query.where(or_(*doors_of(identity)))
    if for_update:
        query = query.with_for_update(of=Conversation)
    found = (await db.execute(query)).one_or_none()
    if found is None:
        raise ConversationNotFound
    record_foreign(db, identity, found[0], action, detail)
    return Access(found[0], found[1] or "")


async def access_message(
    db: AsyncSession, message_id: UUID, identity: Identity, *, action: str = READ, for_update: bool = False
) -> tuple[Access, Message]:
    """Return a message and its conversation, which is locked first if anything is to be changed."""
    conversation_id = await db.scalar(select(Message.conversation_id).where(Message.id == message_id))
    if conversation_id is None:
        raise MessageNotFound
    detail = {"message": str(message_id)}
    try:
        access = await access_conversation(
            db, conversation_id, identity, action=action, detail=detail, for_update=for_update
        )
    except ConversationNotFound:
        raise MessageNotFound from None
    message = await db.get_one(Message, message_id)
    return access, message
