"""Every query on conversations, their lists and their people. Each takes the session of the service's transaction."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Uuid,
    any_,
    cast,
    column,
    delete,
    exists,
    func,
    or_,
    select,
    table,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession

from parley.auth.schemas import Identity
from parley.chat.access import USERS, doors_of, is_operator
from parley.chat.models import CONTENT_SEARCH, LIVE, TITLE_SEARCH, WITHOUT_BLANKS, Conversation, Message, Participant

# With at most so many hits their conversations are looked up; with more, a walk through the newest soon meets some.
FEW_HITS = 2000
_LONE, _APART = re.compile(WITHOUT_BLANKS), r" \g<0> "
# Of agents, by name only.
_SUMMARIES = table("conversation_summaries", column("conversation_id"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list of conversations is narrowed to."""

    words: str = ""
    archived: bool = False
    mode: Literal["ai", "human"] | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """How much of a list, and from where on."""

    limit: int
    after: UUID | None = None
    before: UUID | None = None


async def find_place(db: AsyncSession, conversation_id: UUID, identity: Identity) -> Row[datetime, UUID] | None:
    """Return where a conversation stands in the list; a deleted one still says where to read on."""
    query = select(Conversation.active_at, Conversation.id).where(Conversation.id == conversation_id)
    return (await db.execute(query.where(or_(*doors_of(identity))))).one_or_none()


async def list_conversations(
    db: AsyncSession, identity: Identity, wanted: Wanted, stretch: Stretch, place: Row[datetime, UUID] | None
) -> Sequence[Conversation]:
    """Return conversations, newest activity first: those after a place, or the last ones before it."""
    query = await _narrow(db, identity, wanted)
    is_backwards = stretch.before is not None
    key = (Conversation.active_at, Conversation.id)
    if place is not None:
        here = tuple_(*place)
        query = query.where(tuple_(*key) > here if is_backwards else tuple_(*key) < here)
    order = key if is_backwards else tuple(part.desc() for part in key)
    # One after the other, each by its own index, and then merged: an OR of them would sort everything.
    doors = [query.where(door).order_by(*order).limit(stretch.limit) for door in doors_of(identity)]
    found = union_all(*(door.with_only_columns(Conversation.id).subquery().select() for door in doors)).subquery()
    merged = select(Conversation).where(Conversation.id.in_(select(found.c.id)))
    rows = (await db.scalars(merged.order_by(*order).limit(stretch.limit))).all()
    return rows[::-1] if is_backwards else rows


async def insert_conversation(db: AsyncSession, values: Mapping[str, Any]) -> Conversation | None:
    """Insert a conversation; None where its owner has used the client id."""
    query = insert(Conversation).values(**values).on_conflict_do_nothing(index_elements=["owner_id", "client_id"])
    return await db.scalar(query.returning(Conversation))


async def find_by_client_id(db: AsyncSession, owner_id: UUID, client_id: str) -> Conversation | None:
    query = select(Conversation).where(Conversation.owner_id == owner_id, Conversation.client_id == client_id)
    return await db.scalar(query)


async def find_seq(db: AsyncSession, conversation_id: UUID, message_id: UUID) -> int | None:
    """Return where a message of this conversation stands."""
    query = select(Message.seq).where(Message.id == message_id, Message.conversation_id == conversation_id)
    return await db.scalar(query)


async def list_messages(
    db: AsyncSession, conversation_id: UUID, limit: int, after_seq: int | None, before_seq: int | None
) -> Sequence[Message]:
    """Return messages in their order: the first after a place, the last before it, or the newest."""
    query = select(Message).where(Message.conversation_id == conversation_id).limit(limit)
    if after_seq is not None:
        return (await db.scalars(query.where(Message.seq > after_seq).order_by(Message.seq))).all()
    if before_seq is not None:
        query = query.where(Message.seq < before_seq)
    return (await db.scalars(query.order_by(Message.seq.desc()))).all()[::-1]


async def empty_conversation(db: AsyncSession, conversation_id: UUID) -> None:
    """Leave of all messages, and of what was made of them, only that they were; whoever writes one is fenced off."""
    of_it = Message.conversation_id == conversation_id
    ends = {"status": "stopped", "owner": None, "ended_at": func.now()}
    await db.execute(update(Message).where(of_it, Message.status.in_(LIVE)).values(**ends))
    nothing: dict[str, Any] = {"content": "", "steps": [], "shown_steps": [], "sources": [], "author_name": None}
    nothing |= {"error_message": None, "content_length": None, "content_sha256": None, "rating_comment": None}
    await db.execute(update(Message).where(of_it).values(**nothing))
    await db.execute(delete(Participant).where(Participant.conversation_id == conversation_id))
    await db.execute(delete(_SUMMARIES).where(_SUMMARIES.c.conversation_id == conversation_id))


async def find_participant(
    db: AsyncSession, conversation_id: UUID, user_id: UUID
) -> Row[Participant, str | None] | None:
    """Return somebody who was invited, with the name."""
    query = _people(conversation_id).where(Participant.user_id == user_id)
    return (await db.execute(query)).one_or_none()


async def list_participants(
    db: AsyncSession, conversation_id: UUID, stretch: Stretch
) -> Sequence[Row[Participant, str | None]]:
    """Return who was invited, by id: those after somebody, or the last ones before."""
    query = _people(conversation_id).limit(stretch.limit)
    if stretch.before is not None:
        query = query.where(Participant.user_id < stretch.before).order_by(Participant.user_id.desc())
        return (await db.execute(query)).all()[::-1]
    if stretch.after is not None:
        query = query.where(Participant.user_id > stretch.after)
    return (await db.execute(query.order_by(Participant.user_id))).all()


async def count_participants(db: AsyncSession, conversation_id: UUID) -> int:
    query = select(func.count()).where(Participant.conversation_id == conversation_id)
    return await db.scalar(query) or 0


async def user_exists(db: AsyncSession, user_id: UUID) -> bool:
    return bool(await db.scalar(select(exists().where(USERS.c.id == user_id))))


async def delete_participant(db: AsyncSession, conversation_id: UUID, user_id: UUID) -> bool:
    """Remove somebody; say whether there was anybody to remove."""
    query = delete(Participant).where(Participant.conversation_id == conversation_id, Participant.user_id == user_id)
    return await db.scalar(query.returning(Participant.user_id)) is not None


def _people(conversation_id: UUID) -> Select[Participant, str | None]:
    query = select(Participant, USERS.c.name).join(USERS, USERS.c.id == Participant.user_id)
    return query.where(Participant.conversation_id == conversation_id)


async def _narrow(db: AsyncSession, identity: Identity, wanted: Wanted) -> Select[Conversation]:
    archived = Conversation.archived_at
    query = select(Conversation).where(Conversation.deleted_at.is_(None))
    query = query.where(archived.is_not(None) if wanted.archived else archived.is_(None))
    if wanted.mode is not None:
        query = query.where(Conversation.mode == wanted.mode)
    if not wanted.words:
        return query
    words = _search_query(wanted.words)
    hits = await _few_hits(db, words) if is_operator(identity) else None
    if hits is not None:
        return query.where(Conversation.id == any_(cast(hits, ARRAY(Uuid))))
    # The OFFSET keeps PostgreSQL from asking the whole index again for each conversation.
    said = select(CONTENT_SEARCH).where(Message.conversation_id == Conversation.id).offset(0)
    said_here = said.correlate(Conversation).subquery()
    return query.where(or_(TITLE_SEARCH.op("@@")(words), exists().where(said_here.c.search.op("@@")(words))))


async def _few_hits(db: AsyncSession, words: ColumnElement[Any]) -> list[UUID] | None:
    """Return the conversations in which the words stand; None where they are many."""
    said = select(Message.conversation_id.label("id")).where(CONTENT_SEARCH.op("@@")(words))
    named = select(Conversation.id).where(TITLE_SEARCH.op("@@")(words))
    hits = (await db.scalars(union_all(said, named).limit(FEW_HITS + 1))).all()
    return None if len(hits) > FEW_HITS else list(set(hits))


def _search_query(text: str) -> ColumnElement[Any]:
    """Return what holds where each word, or one that begins so, stands in one title or message."""
    # Quoted, so that nothing in a word is an operator; one parameter, so that every search is the same statement.
    quoted = (word.replace("\\", "\\\\").replace("'", "''") for word in text.split())
    return func.to_tsquery("simple", " & ".join(f"'{_LONE.sub(_APART, word)}':*" for word in quoted))
