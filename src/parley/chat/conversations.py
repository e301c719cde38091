"""Conversations as people keep them: listed, named, archived, handed over, shared, rated, deleted; and what was said.

Each public method is one story with its own transaction. Questions and replies are `service`; nothing is sent here.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import TypedDict, TypeVar
from uuid import UUID

import orjson
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from parley.auth.schemas import Identity
from parley.chat import conversation_queries as queries
from parley.chat import repository
from parley.chat.access import access_conversation, access_message, is_operator
from parley.chat.conversation_queries import Stretch, Wanted
from parley.chat.errors import (
    ClientIdReused,
    ConversationNotFound,
    MessageNotFound,
    NoReply,
    NotEnded,
    NotYours,
    ParticipantNotFound,
    TooManyParticipants,
)
from parley.chat.metrics import ChatMetrics
from parley.chat.models import LIVE, Conversation, Participant
from parley.chat.protocol import MessageView
from parley.chat.repository import ToStop
from parley.chat.rows import change_of, conversation_change, message_view
from parley.chat.schemas import (
    COMMENT_CHARACTERS,
    ConversationCommand,
    ConversationPatch,
    ConversationView,
    ParticipantView,
    Rating,
)
from parley.chat.service import Committed
from parley.core import audit
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.errors import Unprocessable
from parley.core.ids import new_id
from parley.core.schemas import Page

MAX_PARTICIPANTS = 100  # a conversation is no mailing list
# What follows from a commit: viewers and the owners of replies are told.
FollowUp = Callable[[Committed], None]
T = TypeVar("T")


class MessagePage(TypedDict):
    """A stretch of messages, ready to be sent."""

    object: str
    data: list[MessageView]
    first_id: UUID | str | None
    last_id: UUID | str | None
    has_more: bool


class ConversationService:
    """What can be done with conversations."""

    def __init__(self, database: Database, clock: Clock, follow_up: FollowUp, metrics: ChatMetrics) -> None:
        self._database = database
        self._clock = clock
        self._follow_up = follow_up
        self._handoffs = metrics.handoffs

    async def list_conversations(self, identity: Identity, wanted: Wanted, stretch: Stretch) -> Page[ConversationView]:
        """Return a stretch of what somebody may open, newest activity first."""
        _check_one_way(stretch)
        async with self._database.transaction() as db:
            place, named = None, stretch.after or stretch.before
            if named is not None:
                place = await queries.find_place(db, named, identity)
                if place is None:
                    raise ConversationNotFound
            rows = await queries.list_conversations(db, identity, wanted, _one_more(stretch), place)
            if is_operator(identity):
                # Not what was searched for: that may be a customer's name.
                told = {"searched": bool(wanted.words), "count": len(rows)}
                audit.record(
                    db, "conversations_listed", actor_id=identity.user_id, actor_role=identity.role, detail=told
                )
        kept, has_more = _cut(rows, stretch)
        return _page([ConversationView.of(row) for row in kept], [row.id for row in kept], has_more=has_more)

    async def create(self, identity: Identity, command: ConversationCommand) -> tuple[ConversationView, bool]:
        """Make a conversation and say whether it is new: a `client_id` makes one, however often it comes."""
        asked = hashlib.sha256(orjson.dumps([command.title, command.agent])).digest()
        values = command.model_dump() | {"id": new_id(), "owner_id": identity.user_id}
        if command.client_id is not None:
            values["client_sha256"] = asked
        async with self._database.transaction() as db:
            made = await queries.insert_conversation(db, values)
            if made is not None:
                return ConversationView.of(made), True
            known = await queries.find_by_client_id(db, identity.user_id, command.client_id or "")
        if known is None or known.deleted_at is not None or known.client_sha256 != asked:
            raise ClientIdReused("This client_id was used for another conversation.", param="client_id")
        return ConversationView.of(known), False

    async def get(self, identity: Identity, conversation_id: UUID) -> ConversationView:
        """Return a conversation."""
        async with self._database.transaction() as db:
            return ConversationView.of((await access_conversation(db, conversation_id, identity)).conversation)

    async def change(self, identity: Identity, conversation_id: UUID, patch: ConversationPatch) -> ConversationView:
        """Name, archive or hand over a conversation; what is as it was takes no rev."""
        named, committed = patch.model_fields_set, Committed(conversation_id)
        told = {"changed": sorted(named), **({"mode": patch.mode} if "mode" in named else {})}
        async with self._database.transaction() as db:
            access = await access_conversation(
                db, conversation_id, identity, action="conversation_changed", detail=told, for_update=True
            )
            conversation = access.conversation
            if named & {"title", "archived"}:
                _check_owned(conversation, identity)
            before = _shown(conversation)
            if "title" in named:
                conversation.title = patch.title
            if "archived" in named and patch.archived != (conversation.archived_at is not None):
                conversation.archived_at = self._clock.now() if patch.archived else None
            if "mode" in named:
                conversation.mode = patch.mode
            if _shown(conversation) != before:
                _mark(conversation, committed)
            if conversation.mode == "human" and before[2] == "ai":
                quieted = await repository.quiet(db, conversation)
                committed.changes.extend(quieted.changes)
                committed.stops.extend(quieted.stops)
                await db.flush()
                await db.refresh(conversation)
            view = ConversationView.of(conversation)
        if view.mode == "human" and before[2] == "ai":
            self._handoffs.labels("person").inc()
        self._follow_up(committed)
        return view

    async def complete(self, identity: Identity, conversation_id: UUID) -> ConversationView:
        """Note that a conversation has come to its end; the next question opens it again."""
        committed = Committed(conversation_id)
        async with self._database.transaction() as db:
            access = await access_conversation(
                db, conversation_id, identity, action="conversation_completed", for_update=True
            )
            conversation = access.conversation
            if conversation.completed_at is None:
                conversation.completed_at = self._clock.now()
                _mark(conversation, committed)
            view = ConversationView.of(conversation)
        self._follow_up(committed)
        return view

    async def delete(self, identity: Identity, conversation_id: UUID) -> None:
        """Leave nothing of a conversation but that it was; the sweep closes the sockets that show it."""
        committed = Committed(conversation_id)
        async with self._database.transaction() as db:
            access = await access_conversation(
                db, conversation_id, identity, action="conversation_deleted", for_update=True
            )
            conversation = access.conversation
            _check_owned(conversation, identity)
            live = await repository.list_live(db, conversation_id)
            committed.stops.extend(ToStop(reply.id, reply.owner) for reply in live if reply.owner is not None)
            await queries.empty_conversation(db, conversation_id)
            conversation.title = ""
            conversation.deleted_at = self._clock.now()
            conversation.rev += 1
            conversation.meta_rev = conversation.rev
        self._follow_up(committed)

    async def list_messages(self, identity: Identity, conversation_id: UUID, stretch: Stretch) -> MessagePage:
        """Return a stretch of what was said, oldest first; without a place the newest."""
        _check_one_way(stretch)
        async with self._database.transaction() as db:
            await access_conversation(db, conversation_id, identity)
            seqs = [
                None if id_ is None else await _seq(db, conversation_id, id_) for id_ in (stretch.after, stretch.before)
            ]
            rows = await queries.list_messages(db, conversation_id, stretch.limit + 1, *seqs)
        has_more = len(rows) > stretch.limit
        kept = rows[: stretch.limit] if stretch.after is not None else rows[-stretch.limit :]
        views = [message_view(row) for row in kept]
        first_id, last_id = (views[0]["id"], views[-1]["id"]) if views else (None, None)
        return MessagePage(object="list", data=views, first_id=first_id, last_id=last_id, has_more=has_more)

    async def rate(
        self, identity: Identity, message_id: UUID, rating: Rating | None, comment: str | None
    ) -> MessageView:
        """Note what somebody thinks of an ended reply, or take it back; return the message."""
        if comment is not None and (rating is None or len(comment) > COMMENT_CHARACTERS):
            raise Unprocessable("A comment belongs to a rating and is at most 2000 characters long.", param="comment")
        async with self._database.transaction() as db:
            access, reply = await access_message(db, message_id, identity, action="message_rated", for_update=True)
            committed = Committed(access.conversation.id)
            if reply.role != "assistant":
                raise NoReply
            if reply.status in LIVE:
                raise NotEnded
            if (reply.rating, reply.rating_comment) != (rating, comment or None):
                reply.rating, reply.rating_comment = rating, comment or None
                reply.rated_by = identity.user_id if rating is not None else None
                repository.touch(access.conversation, reply)
                committed.changes.append(change_of(reply))
            view = message_view(reply)
        self._follow_up(committed)
        return view

    async def list_participants(
        self, identity: Identity, conversation_id: UUID, stretch: Stretch
    ) -> Page[ParticipantView]:
        """Return who was invited."""
        _check_one_way(stretch)
        async with self._database.transaction() as db:
            await access_conversation(db, conversation_id, identity)
            rows = await queries.list_participants(db, conversation_id, _one_more(stretch))
        kept, has_more = _cut(rows, stretch)
        return _page([_participant(row) for row in kept], [row[0].user_id for row in kept], has_more=has_more)

    async def invite(self, identity: Identity, conversation_id: UUID, user_id: UUID) -> tuple[ParticipantView, bool]:
        """Let somebody read and write here, and say whether that is new."""
        async with self._database.transaction() as db:
            access = await access_conversation(
                db,
                conversation_id,
                identity,
                action="participant_invited",
                detail={"user": str(user_id)},
                for_update=True,
            )
            conversation = access.conversation
            _check_owned(conversation, identity)
            known = await queries.find_participant(db, conversation_id, user_id)
            if known is not None:
                return _participant(known), False
            if user_id == conversation.owner_id:
                raise Unprocessable("This is the owner of the conversation.", param="user_id")
            if not await queries.user_exists(db, user_id):
                raise Unprocessable("There is no such user.", code="unknown_user", param="user_id")
            if await queries.count_participants(db, conversation_id) >= MAX_PARTICIPANTS:
                raise TooManyParticipants
            db.add(Participant(conversation_id=conversation_id, user_id=user_id, invited_by=identity.user_id))
            await db.flush()
            made = await queries.find_participant(db, conversation_id, user_id)
            if made is None:
                raise ParticipantNotFound
            return _participant(made), True

    async def remove(self, identity: Identity, conversation_id: UUID, user_id: UUID) -> None:
        """Shut somebody out again, or leave; the sweep closes the sockets that are open."""
        async with self._database.transaction() as db:
            access = await access_conversation(
                db,
                conversation_id,
                identity,
                action="participant_removed",
                detail={"user": str(user_id)},
                for_update=True,
            )
            if user_id != identity.user_id:
                _check_owned(access.conversation, identity)
            if not await queries.delete_participant(db, conversation_id, user_id):
                raise ParticipantNotFound


def _check_one_way(stretch: Stretch) -> None:
    if stretch.after is not None and stretch.before is not None:
        raise Unprocessable("Ask for what comes after a place, or before one.", param="before")


def _check_owned(conversation: Conversation, identity: Identity) -> None:
    if conversation.owner_id != identity.user_id and not is_operator(identity):
        raise NotYours


def _shown(conversation: Conversation) -> tuple[str, bool, str]:
    return conversation.title, conversation.archived_at is not None, conversation.mode


def _mark(conversation: Conversation, committed: Committed) -> None:
    """Take the next rev for the conversation's own row."""
    conversation.rev += 1
    conversation.meta_rev = conversation.rev
    committed.changes.append(conversation_change(conversation))


async def _seq(db: AsyncSession, conversation_id: UUID, message_id: UUID) -> int:
    seq = await queries.find_seq(db, conversation_id, message_id)
    if seq is None:
        raise MessageNotFound
    return seq


def _one_more(stretch: Stretch) -> Stretch:
    """Whoever asks for one more knows whether there is more."""
    return Stretch(stretch.limit + 1, stretch.after, stretch.before)


def _cut(rows: Sequence[T], stretch: Stretch) -> tuple[Sequence[T], bool]:
    has_more = len(rows) > stretch.limit
    return rows[-stretch.limit :] if stretch.before is not None else rows[: stretch.limit], has_more


def _page(views: Sequence[T], ids: Sequence[UUID], *, has_more: bool) -> Page[T]:
    return Page(data=list(views), first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=has_more)


def _participant(row: Row[Participant, str | None]) -> ParticipantView:
    participant, name = row
    return ParticipantView(
        user_id=participant.user_id,
        name=name or "",
        invited_by=participant.invited_by,
        created_at=participant.created_at,
    )
