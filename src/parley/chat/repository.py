"""Every query on questions and replies. Each takes the session of the service's transaction.

Whatever changes a conversation has locked its row before (`access`, `lock`): the states of its replies are read after
that, and nobody else changes them meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from parley.chat.changes import Change
from parley.chat.models import LIVE, Conversation, Message
from parley.chat.rows import change_of, conversation_change
from parley.chat.tape import digest

CHANGES_AT_ONCE = 200  # more than these are a `reset`


@dataclass(frozen=True, slots=True)
class ToStop:
    """A reply that is being written and must end; its owner does it."""

    message_id: UUID
    owner: UUID | None


@dataclass(slots=True)
class Quieted:
    """What follows when nothing may be written any more."""

    changes: list[Change] = field(default_factory=list)
    stops: list[ToStop] = field(default_factory=list)


async def lock(db: AsyncSession, conversation_id: UUID) -> Conversation | None:
    """Return the conversation, locked until the transaction ends."""
    return await db.scalar(select(Conversation).where(Conversation.id == conversation_id).with_for_update())


async def find_conversation(db: AsyncSession, conversation_id: UUID) -> Conversation | None:
    """Return a conversation as it stands, without a lock and without asking who wants to know."""
    return await db.get(Conversation, conversation_id)


async def find_by_client_id(db: AsyncSession, author_id: UUID, client_id: str) -> Message | None:
    """Return the question of this author with this id, or the reply that was asked for by it."""
    query = select(Message).where(Message.author_id == author_id, Message.client_id == client_id)
    return await db.scalar(query)


async def find_reply_to(db: AsyncSession, question_id: UUID, conversation_id: UUID) -> UUID | None:
    """Return the first reply to a question: the one its own command asked for."""
    query = select(Message.id).where(Message.conversation_id == conversation_id, Message.question_id == question_id)
    return await db.scalar(query.order_by(Message.seq).limit(1))


async def list_live(db: AsyncSession, conversation_id: UUID) -> Sequence[Message]:
    """Return the replies that have not ended, in their order: at most one is being written."""
    query = select(Message).where(Message.conversation_id == conversation_id, Message.status.in_(LIVE))
    return (await db.scalars(query.order_by(Message.seq))).all()


async def find_live(db: AsyncSession, conversation_id: UUID) -> UUID | None:
    """Return the reply that is being written."""
    query = select(Message.id).where(
        Message.conversation_id == conversation_id, Message.status.in_(("streaming", "stopping"))
    )
    return await db.scalar(query)


async def find_newest_question(db: AsyncSession, conversation_id: UUID) -> Message | None:
    """Return the last thing a customer said."""
    query = select(Message).where(Message.conversation_id == conversation_id, Message.role == "user")
    return await db.scalar(query.order_by(Message.seq.desc()).limit(1))


async def find_newest_reply(db: AsyncSession, conversation_id: UUID) -> Message | None:
    """Return the newest reply, in whatever state it is."""
    query = select(Message).where(Message.conversation_id == conversation_id, Message.role == "assistant")
    return await db.scalar(query.order_by(Message.seq.desc()).limit(1))


async def list_changes(db: AsyncSession, conversation_id: UUID, after_rev: int) -> Sequence[Change] | None:
    """Return the changed messages after a rev, in order; None when they are too many."""
    query = select(Message).where(Message.conversation_id == conversation_id, Message.rev > after_rev)
    rows = (await db.scalars(query.order_by(Message.rev).limit(CHANGES_AT_ONCE + 1))).all()
    return None if len(rows) > CHANGES_AT_ONCE else [change_of(row) for row in rows]


def add_message(db: AsyncSession, conversation: Conversation, **values: Any) -> Message:
    """Insert a message as the next one of a locked conversation."""
    conversation.last_seq += 1
    conversation.rev += 1
    conversation.active_at = func.now()  # the database's clock
    message = Message(conversation_id=conversation.id, seq=conversation.last_seq, rev=conversation.rev, **values)
    db.add(message)
    return message


def touch(conversation: Conversation, message: Message) -> None:
    """Mark a message as changed."""
    conversation.rev += 1
    message.rev = conversation.rev


def claim(conversation: Conversation, reply: Message, owner: UUID) -> bool:
    """Make a reply the owner's to write: start, promotion, takeover and hand-over are this one step.

    Returns whether viewers can see it: a queued one begins.
    """
    reply.owner = owner
    reply.attempt += 1
    if reply.status != "queued":
        return False
    reply.status = "streaming"
    touch(conversation, reply)
    return True


def end(
    conversation: Conversation,
    reply: Message,
    status: str,
    *,
    content: str = "",
    finish_reason: str | None = None,
    error: tuple[str, str, bool] | None = None,
    tape_end: int = 0,
    shown_steps: Sequence[Any] = (),
    sources: Sequence[Any] = (),
) -> None:
    """End a reply, whose row is locked, as what it became."""
    reply.status = status
    reply.content = content
    reply.finish_reason = finish_reason
    if error is not None:
        reply.error_code, reply.error_message, reply.is_retryable = error
    length, sha256 = digest(content)
    reply.content_length, reply.content_sha256 = length, bytes.fromhex(sha256)
    reply.tape_end = tape_end
    reply.shown_steps = list(shown_steps)
    reply.sources = list(sources)
    reply.ended_at = func.now()  # the database's clock
    touch(conversation, reply)
    reply.ended_rev = reply.rev
    conversation.active_at = func.now()


async def quiet(db: AsyncSession, conversation: Conversation) -> Quieted:
    """Let nothing be written any more: what is queued ends as stopped, what is being written is told to stop."""
    quieted = Quieted()
    for reply in await list_live(db, conversation.id):
        if reply.status == "queued":
            end(conversation, reply, "stopped")
            quieted.changes.append(change_of(reply))
        else:
            reply.status = "stopping"
            quieted.stops.append(ToStop(reply.id, reply.owner))
    return quieted


async def next_queued(db: AsyncSession, conversation_id: UUID) -> Message | None:
    """Return the reply whose turn it is, where nothing is being written."""
    live = await list_live(db, conversation_id)
    return live[0] if live and live[0].status == "queued" else None


def set_mode(conversation: Conversation, mode: str) -> Change | None:
    """Hand a conversation to people or to the assistant; None where it is so already."""
    if conversation.mode == mode:
        return None
    conversation.mode = mode
    conversation.rev += 1
    conversation.meta_rev = conversation.rev
    return conversation_change(conversation)


async def find_message(db: AsyncSession, message_id: UUID) -> Message | None:
    """Return a message as it stands."""
    return await db.get(Message, message_id, populate_existing=True)


async def store_steps(db: AsyncSession, message_id: UUID, attempt: int, owner: UUID, steps: Sequence[Any]) -> bool:
    """Store the steps of a reply that is this worker's to write; False where it is not."""
    query = update(Message).where(_is_mine(message_id, attempt, owner)).values(steps=list(steps))
    return await db.scalar(query.returning(Message.id)) is not None


async def raise_attempt(db: AsyncSession, message_id: UUID, attempt: int, owner: UUID) -> bool:
    """Begin the next attempt of a reply that is this worker's to write; False where it is not."""
    query = update(Message).where(_is_mine(message_id, attempt, owner)).values(attempt=attempt + 1)
    return await db.scalar(query.returning(Message.id)) is not None


async def hand_off(db: AsyncSession, conversation: Conversation) -> Quieted:
    """Let people answer from now on."""
    quieted = await quiet(db, conversation)
    change = set_mode(conversation, "human")
    if change is not None:
        quieted.changes.append(change)
    return quieted


async def release(
    db: AsyncSession, owner: UUID, attempts: Sequence[tuple[UUID, int]], *, are_broken: bool = False
) -> None:
    """Give attempts at replies back: whoever has room claims them. One that was claimed since is left alone.

    Those that broke count as taken over: a reply that breaks everybody who writes it comes to an end.
    """
    theirs = and_(tuple_(Message.id, Message.attempt).in_(attempts), Message.owner == owner, Message.status.in_(LIVE))
    takeovers = Message.takeovers + int(are_broken)
    await db.execute(update(Message).where(theirs).values(owner=None, takeovers=takeovers))


def _is_mine(message_id: UUID, attempt: int, owner: UUID) -> ColumnElement[bool]:
    return and_(
        Message.id == message_id,
        Message.attempt == attempt,
        Message.owner == owner,
        Message.status.in_(("streaming", "stopping")),
    )
