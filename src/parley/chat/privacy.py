"""What chat holds of a person, and for how long: queries for export, erasure and retention.

Each takes the session of the caller's transaction. Whatever is changed is locked by its conversation first, as
everywhere; nothing is told to viewers from here: the sweeps of the workers see the new `rev`, or that it is gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, CompoundSelect, RowMapping, and_, delete, func, or_, select, tuple_, union, update
from sqlalchemy.ext.asyncio import AsyncSession

from parley.chat import conversation_queries, repository
from parley.chat.models import CONTENT_SEARCH, LIVE, TITLE_SEARCH, Conversation, Message, Participant
from parley.chat.service import title_of
from parley.chat.tape import digest

# What stays of a message of somebody who was erased, in a conversation of others.
ERASED = "[erased]"
Place = tuple[datetime, UUID]
_CONVERSATION = [
    column for column in Conversation.__table__.columns if column.key not in {TITLE_SEARCH.key, "client_sha256"}
]
_MESSAGE = [
    column
    for column in Message.__table__.columns
    if column.key not in {CONTENT_SEARCH.key, "content_sha256", "owner", "takeovers", "steps"}
]


# Export.


async def list_own(db: AsyncSession, user_id: UUID, after: UUID | None, limit: int) -> Sequence[RowMapping]:
    """Return somebody's conversations, oldest first, also what is left of deleted ones."""
    query = select(*_CONVERSATION).where(Conversation.owner_id == user_id).order_by(Conversation.id).limit(limit)
    query = query.where(Conversation.id > after) if after else query
    return (await db.execute(query)).mappings().all()


async def list_messages(db: AsyncSession, conversation_id: UUID, after_seq: int, limit: int) -> Sequence[RowMapping]:
    """Return what was said in a conversation, by whomever."""
    query = select(*_MESSAGE).where(Message.conversation_id == conversation_id, Message.seq > after_seq)
    return (await db.execute(query.order_by(Message.seq).limit(limit))).mappings().all()


async def list_said_elsewhere(db: AsyncSession, user_id: UUID, after: UUID | None, limit: int) -> Sequence[RowMapping]:
    """Return what somebody said or thought of a reply in conversations of others."""
    others = select(Conversation.id).where(Conversation.owner_id != user_id)
    theirs = or_(Message.author_id == user_id, Message.rated_by == user_id)
    query = select(*_MESSAGE).where(theirs, Message.conversation_id.in_(others)).order_by(Message.id).limit(limit)
    query = query.where(Message.id > after) if after else query
    return (await db.execute(query)).mappings().all()


async def list_invitations(db: AsyncSession, user_id: UUID) -> Sequence[RowMapping]:
    """Return where somebody was invited, and who was invited to what is theirs."""
    own = select(Conversation.id).where(Conversation.owner_id == user_id)
    query = select(*Participant.__table__.columns)
    query = query.where(or_(Participant.user_id == user_id, Participant.conversation_id.in_(own)))
    return (await db.execute(query.order_by(Participant.conversation_id, Participant.user_id))).mappings().all()


# Retention.


@dataclass(frozen=True, slots=True)
class Standing:
    """A conversation in a list by age: when and which, and what has become of it."""

    place: Place
    is_archived: bool = False
    is_deleted: bool = False


async def list_idle(db: AsyncSession, after: Place | None, before: datetime, limit: int) -> Sequence[Standing]:
    """Return conversations in which nothing has happened since a moment, oldest first."""
    key = (Conversation.active_at, Conversation.id)
    query = select(*key, Conversation.archived_at, Conversation.deleted_at).where(Conversation.active_at < before)
    query = query.where(tuple_(*key) > tuple_(*after)) if after is not None else query
    rows = await db.execute(query.order_by(*key).limit(limit))
    return [Standing((at, id_), archived is not None, deleted is not None) for at, id_, archived, deleted in rows]


async def list_deleted(db: AsyncSession, after: Place | None, before: datetime, limit: int) -> Sequence[Standing]:
    """Return what is left of conversations that were deleted before a moment, oldest first."""
    key = (Conversation.deleted_at, Conversation.id)
    query = select(*key).where(Conversation.deleted_at < before)
    query = query.where(tuple_(*key) > tuple_(*after)) if after is not None else query
    rows = await db.execute(query.order_by(*key).limit(limit))
    return [Standing((at, id_), is_deleted=True) for at, id_ in rows if at is not None]


async def lock_quiet(db: AsyncSession, ids: Sequence[UUID], before: datetime) -> list[UUID]:
    """Lock those of them that nobody else works on and in which nothing is live or has happened since."""
    still = or_(Conversation.active_at < before, Conversation.deleted_at < before)
    query = select(Conversation.id).where(Conversation.id.in_(ids), still).order_by(Conversation.id)
    locked = list(await db.scalars(query.with_for_update(skip_locked=True)))
    # Asked again behind the lock: whoever stored a question meanwhile held it.
    live = await list_live_among(db, locked)
    return [id_ for id_ in locked if id_ not in live]


async def archive(db: AsyncSession, ids: Sequence[UUID]) -> int:
    """Archive locked conversations that are not; a change that viewers see."""
    query = update(Conversation).where(
        Conversation.id.in_(ids), Conversation.archived_at.is_(None), Conversation.deleted_at.is_(None)
    )
    query = query.values(archived_at=func.now(), rev=Conversation.rev + 1, meta_rev=Conversation.rev + 1)
    return len((await db.execute(query.returning(Conversation.id))).all())


@dataclass(frozen=True, slots=True)
class Removed:
    """How much of some conversations was removed."""

    messages: int
    conversations: Sequence[UUID]
    """Those of which nothing is left."""


async def remove(db: AsyncSession, ids: Sequence[UUID], most_messages: int) -> Removed:
    """Remove locked conversations, or so many of their messages: the rest the next time, and shown to nobody."""
    some = select(Message.id).where(Message.conversation_id.in_(ids)).limit(most_messages)
    gone = len((await db.execute(delete(Message).where(Message.id.in_(some)).returning(Message.id))).all())
    if gone == most_messages:
        hidden = update(Conversation).where(Conversation.id.in_(ids))
        await db.execute(hidden.values(title="", deleted_at=func.coalesce(Conversation.deleted_at, func.now())))
        return Removed(gone, ())
    whole = await db.scalars(delete(Conversation).where(Conversation.id.in_(ids)).returning(Conversation.id))
    return Removed(gone, list(whole))


async def count(db: AsyncSession, ids: Sequence[UUID]) -> Mapping[str, int]:
    """Return how much there is of those of them in which nothing is live."""
    quiet = set(ids) - await list_live_among(db, ids)
    messages = await db.scalar(select(func.count()).where(Message.conversation_id.in_(quiet)))
    return {"conversations_deleted": len(quiet), "messages": messages or 0}


async def list_with_people(db: AsyncSession, user_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of them who have conversations, said something, or were invited."""
    query: CompoundSelect[UUID | None] = union(
        select(Conversation.owner_id).where(Conversation.owner_id.in_(user_ids)),
        select(Message.author_id).where(Message.author_id.in_(user_ids)),
        select(Participant.user_id).where(Participant.user_id.in_(user_ids)),
    )
    return {id_ for id_ in await db.scalars(query) if id_ is not None}


# Erasure.


async def list_owned_ids(db: AsyncSession, user_id: UUID, limit: int) -> Sequence[UUID]:
    """Return some of somebody's conversations."""
    query = select(Conversation.id).where(Conversation.owner_id == user_id).order_by(Conversation.id)
    return (await db.scalars(query.limit(limit))).all()


async def list_touched_ids(db: AsyncSession, user_id: UUID) -> Sequence[UUID]:
    """Return the conversations of others in which somebody said something, rated, or was invited."""
    query = union(
        select(Message.conversation_id).where(Message.author_id == user_id),
        select(Message.conversation_id).where(Message.rated_by == user_id),
        select(Participant.conversation_id).where(Participant.user_id == user_id),
    )
    others = select(Conversation.id).where(Conversation.owner_id != user_id)
    found = query.subquery()
    return (await db.scalars(select(found).where(found.c[0].in_(others)).order_by(found.c[0]))).all()


async def list_live_among(db: AsyncSession, ids: Sequence[UUID]) -> set[UUID]:
    """Return those of them in which a reply is written or waits."""
    return set(await db.scalars(select(Message.conversation_id).where(Message.conversation_id.in_(ids), _LIVE)))


async def list_live_of(db: AsyncSession, user_id: UUID) -> Sequence[tuple[UUID, bool]]:
    """Return the conversations in which a reply to somebody is written or waits, and whether they are their own."""
    asked = select(Message.id).where(Message.author_id == user_id)
    query = select(Conversation.id, Conversation.owner_id == user_id).join(
        Message, Message.conversation_id == Conversation.id
    )
    query = query.where(_LIVE, or_(Conversation.owner_id == user_id, Message.question_id.in_(asked)))
    return [(id_, is_own) for id_, is_own in await db.execute(query.distinct())]


async def end_own(db: AsyncSession, conversation_id: UUID) -> None:
    """Leave nothing of a conversation but that it was; whoever writes in it is fenced off."""
    conversation = await repository.lock(db, conversation_id)
    if conversation is not None:
        await conversation_queries.empty_conversation(db, conversation_id)
        conversation.title = ""
        conversation.deleted_at = func.coalesce(Conversation.deleted_at, func.now())
        conversation.rev += 1
        conversation.meta_rev = conversation.rev


async def end_asked(db: AsyncSession, conversation_id: UUID, user_id: UUID) -> None:
    """Stop replies to somebody in a conversation of others; whoever writes one is fenced off."""
    conversation = await repository.lock(db, conversation_id)
    if conversation is None:
        return
    asked = set(await db.scalars(_said(conversation_id, user_id)))
    for reply in await repository.list_live(db, conversation_id):
        if reply.question_id in asked:
            reply.attempt += 1  # an attempt without a tape: what viewers have of the last one is not its text
            repository.end(conversation, reply, "stopped")
            reply.owner = None


async def lock_own(db: AsyncSession, user_id: UUID, limit: int) -> list[UUID]:
    """Lock some of somebody's conversations, in the order in which everybody locks many."""
    query = select(Conversation.id).where(Conversation.owner_id == user_id).order_by(Conversation.id)
    return list(await db.scalars(query.limit(limit).with_for_update()))


async def erase_in(db: AsyncSession, conversation_id: UUID, user_id: UUID) -> int:
    """Take somebody out of a conversation of others: words, name and what was answered; return how many messages.

    The rows stay, so that what others said keeps its place.
    """
    conversation = await repository.lock(db, conversation_id)
    if conversation is None:
        return 0
    said = set(await db.scalars(_said(conversation_id, user_id)))
    theirs = or_(
        Message.author_id == user_id,
        Message.question_id.in_(said),
        Message.rated_by == user_id,
        # Of before it was noted whose they are; of nobody else is it known either.
        and_(Message.rated_by.is_(None), Message.rating_comment.is_not(None)),
    )
    rows = (
        await db.scalars(
            select(Message).where(Message.conversation_id == conversation_id, theirs).order_by(Message.seq)
        )
    ).all()
    for row in rows:
        if row.id in said and conversation.title and conversation.title == title_of(row.content):
            conversation.title = ""
        if row.id in said or row.question_id in said:
            _empty(row)
        if row.author_id == user_id:
            row.author_id = row.author_name = row.client_id = None
        if row.rated_by in {user_id, None}:
            row.rating = row.rating_comment = row.rated_by = None
        repository.touch(conversation, row)
    if rows:
        conversation.rev += 1
        conversation.meta_rev = conversation.rev
    await conversation_queries.delete_participant(db, conversation_id, user_id)
    return len(rows)


async def forget_inviter(db: AsyncSession, user_id: UUID) -> None:
    """Let invitations forget who made them."""
    await db.execute(update(Participant).where(Participant.invited_by == user_id).values(invited_by=None))


def _empty(row: Message) -> None:
    row.content = ERASED
    row.steps, row.shown_steps, row.sources = [], [], []
    row.error_message = None
    if row.content_sha256 is not None:
        # Of a tape nobody has any more: viewers get the whole message, and what they check is what they got.
        length, sha256 = digest(row.content)
        row.content_length, row.content_sha256, row.tape_end = length, bytes.fromhex(sha256), 0


def _said(conversation_id: UUID, user_id: UUID) -> Any:
    return select(Message.id).where(
        Message.conversation_id == conversation_id, Message.author_id == user_id, Message.role != "assistant"
    )


_LIVE: ColumnElement[bool] = Message.status.in_(LIVE)
