"""Questions and replies: each method is one transaction, and what follows from its commit is handed on.

Writes nothing itself but rows; streams, tasks and other workers are told by `replies`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID
from weakref import WeakValueDictionary

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from parley.agents.interface import HistoryMessage, Turn, TurnUser
from parley.auth.schemas import Identity
from parley.chat import repository
from parley.chat.access import access_conversation, access_message, is_operator
from parley.chat.changes import Change
from parley.chat.errors import Busy, ClientIdReused, HumanMode, MessageNotFound, MessageTooLong, NotLast, QueueFull
from parley.chat.metrics import ChatMetrics
from parley.chat.models import ENDED, Conversation, Message
from parley.chat.protocol import MessageView, OnBusy
from parley.chat.reading import Standing
from parley.chat.repository import ToStop
from parley.chat.rows import change_of, conversation_change, message_view
from parley.chat.settings import ChatSettings
from parley.chat.statements import KNOWS, Begun, begin_conversation, conversation_of, message_of
from parley.core.database import AlreadyThere, Database
from parley.core.errors import AppError, DatabaseUnavailable
from parley.core.ids import new_id
from parley.core.limits import Limiter

TITLE_CHARACTERS = 60  # of the first question: what a list shows
TWIN_S = 2.0  # a twin that hangs is not waited for longer: the database knows who was first
ASK_BUCKET = "chat.ask"  # questions count in one, whatever they come through


@dataclass(frozen=True, slots=True)
class Claimed:
    """A reply that this worker is to write."""

    conversation_id: UUID
    message_id: UUID
    attempt: int
    is_stopping: bool = False
    turn: Turn | None = None
    """What is asked, where it is known without reading."""


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks."""

    content: str
    conversation_id: UUID | None = None
    """None: a new conversation."""
    client_id: str | None = None
    on_busy: OnBusy = "queue"


@dataclass(frozen=True, slots=True)
class Again:
    """The newest turn once more: a new reply, and with `content` also the question in other words."""

    message_id: UUID
    """Of the question or its newest reply."""
    client_id: str | None = None
    content: str | None = None


@dataclass(slots=True)
class Committed:
    """What follows from a commit."""

    conversation_id: UUID
    changes: list[Change] = field(default_factory=list)
    claimed: list[Claimed] = field(default_factory=list)
    stops: list[ToStop] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that is stored, now or before, and its reply."""

    conversation_id: UUID
    message_id: UUID
    reply_id: UUID | None
    """None where a person answers."""
    is_duplicate: bool
    rev: int
    """Just before the question."""
    fresh: Standing | None = None
    """Of a conversation that has just begun: all of it."""


Find = Callable[[AsyncSession], Awaitable[Asked | None]]
Store = Callable[[], Awaitable[tuple[Asked, Committed]]]


class Desk(Protocol):
    """What the service asks of the worker it runs in."""

    def admit(self) -> None:
        """Raise Overloaded or Draining where nothing new can be taken on."""
        ...

    def has_room(self) -> bool:
        """Whether this worker may claim another reply."""
        ...

    def expect(self, message_id: UUID) -> None:
        """Know of a reply before its claim is committed."""
        ...

    def forget(self, message_id: UUID) -> None:
        """Its claim was not committed, as far as anybody knows."""
        ...

    def follow_up(self, committed: Committed) -> None:
        """Do what follows from a commit."""
        ...


class ChatService:
    """What people do in a conversation that concerns replies."""

    def __init__(
        self,
        *,
        database: Database,
        limiter: Limiter,
        settings: ChatSettings,
        boot_id: UUID,
        desk: Desk,
        metrics: ChatMetrics,
    ) -> None:
        self._database = database
        self._limiter = limiter
        self._settings = settings
        self._boot_id = boot_id
        self._desk = desk
        self._metrics = metrics
        self._twins: WeakValueDictionary[tuple[UUID, str], asyncio.Lock] = WeakValueDictionary()

    async def ask(self, identity: Identity, question: Question) -> Asked:
        """Store a question and its reply; a known `client_id` answers with what was stored then."""
        self._check_size(question.content)

        async def find(db: AsyncSession) -> Asked | None:
            return await self._find_asked(db, identity, question)

        async def store() -> tuple[Asked, Committed]:
            conversation_id = question.conversation_id
            if conversation_id is None:
                return await self._begin(identity, question)
            return await self._commit(lambda db: self._store(db, identity, conversation_id, question))

        return await self._once(identity, question.client_id, find, store)

    async def stop(self, identity: Identity, message_id: UUID) -> Asked:
        """Stop a reply, or find that it has ended; its owner ends it, in band, behind its last token."""
        async with self._database.transaction() as db:
            access, reply = await access_message(db, message_id, identity, action="reply_stopped", for_update=True)
            if reply.role != "assistant":
                raise MessageNotFound
            conversation = access.conversation
            before, committed = conversation.rev, Committed(conversation.id)
            if reply.status == "queued":
                repository.end(conversation, reply, "stopped")
                await db.flush()
                committed.changes.append(change_of(reply))
            elif reply.status not in ENDED:
                reply.status = "stopping"
                committed.stops.append(ToStop(reply.id, reply.owner))
        self._desk.follow_up(committed)
        question_id = reply.question_id or reply.id
        return Asked(conversation.id, question_id, reply.id, is_duplicate=False, rev=before)

    async def find_end(self, message_id: UUID) -> int | None:
        """Return the rev at which a reply ended; None while it has not."""
        async with self._database.transaction() as db:
            message = await repository.find_message(db, message_id)
        return message.ended_rev if message is not None else None

    async def find_due(self, conversation_id: UUID, reply_id: UUID | None) -> UUID | None:
        """Return the reply a resumed stream waits for: the one its cursor names here, else the newest."""
        async with self._database.transaction() as db:
            due = await repository.find_message(db, reply_id) if reply_id is not None else None
            if due is None or due.conversation_id != conversation_id or due.role != "assistant":
                due = await repository.find_newest_reply(db, conversation_id)
        return due.id if due is not None else None

    async def read_pair(self, asked: Asked) -> tuple[MessageView, MessageView | None]:
        """Return a question and its reply as they stand."""
        async with self._database.transaction() as db:
            question = await repository.find_message(db, asked.message_id)
            reply = await repository.find_message(db, asked.reply_id) if asked.reply_id else None
        if question is None:
            raise MessageNotFound
        return message_view(question), message_view(reply) if reply is not None else None

    async def again(self, identity: Identity, wish: Again) -> Asked:
        """Answer the newest question anew."""
        self._check_size(wish.content or "")

        async def find(db: AsyncSession) -> Asked | None:
            return await self._find_again(db, identity, wish)

        async def store() -> tuple[Asked, Committed]:
            return await self._commit(lambda db: self._store_again(db, identity, wish))

        return await self._once(identity, wish.client_id, find, store)

    async def _once(self, identity: Identity, client_id: str | None, find: Find, store: Store) -> Asked:
        """Store what is asked unless it is known by its id, also when a twin is quicker; only what is stored counts.

        Twins on one worker go one after the other, so that those behind the first are found and count for nothing.
        """
        if client_id is None:
            return await self._find_or_store(identity, None, find, store)
        async with _in_turn(self._twins.setdefault((identity.user_id, client_id), asyncio.Lock())):
            return await self._find_or_store(identity, client_id, find, store)

    async def _find_or_store(self, identity: Identity, client_id: str | None, find: Find, store: Store) -> Asked:
        if client_id is not None and await self._database.fetch(KNOWS, identity.user_id, client_id):
            async with self._database.transaction() as db:
                known = await find(db)
            if known is not None:
                self._metrics.duplicates.inc()
                return known
        self._desk.admit()
        uncount = await self._limiter.count(identity.limit_key, "ask", ASK_BUCKET)
        try:
            asked, committed = await store()
        except DatabaseUnavailable:
            raise  # it may be stored all the same
        except (IntegrityError, AlreadyThere, AppError):
            await uncount()
            if client_id is None:
                raise
            # What a twin has just done may stand in the way.
            async with self._database.transaction() as db:
                known = await find(db)
            if known is None:
                raise
            self._metrics.duplicates.inc()
            return known
        self._desk.follow_up(committed)
        return asked

    async def _find_asked(self, db: AsyncSession, identity: Identity, question: Question) -> Asked | None:
        message = await repository.find_by_client_id(db, identity.user_id, question.client_id or "")
        if message is None:
            return None
        await access_conversation(db, message.conversation_id, identity)
        is_other = question.conversation_id not in {None, message.conversation_id}
        if (
            is_other
            or message.content != question.content
            or message.role == "assistant"
            or message.replaces is not None
        ):
            raise ClientIdReused(param="client_id")
        reply_id = await repository.find_reply_to(db, message.id, message.conversation_id)
        return Asked(message.conversation_id, message.id, reply_id, is_duplicate=True, rev=message.rev - 1)

    async def _find_again(self, db: AsyncSession, identity: Identity, wish: Again) -> Asked | None:
        message = await repository.find_by_client_id(db, identity.user_id, wish.client_id or "")
        if message is None:
            return None
        await access_conversation(db, message.conversation_id, identity)
        if wish.content is None:
            if message.role != "assistant" or wish.message_id not in {message.replaces, message.question_id}:
                raise ClientIdReused(param="client_id")
            question_id = message.question_id or message.id
            return Asked(message.conversation_id, question_id, message.id, is_duplicate=True, rev=message.rev - 1)
        if message.replaces != wish.message_id or message.content != wish.content:
            raise ClientIdReused(param="client_id")
        reply_id = await repository.find_reply_to(db, message.id, message.conversation_id)
        return Asked(message.conversation_id, message.id, reply_id, is_duplicate=True, rev=message.rev - 1)

    async def _begin(self, identity: Identity, asked: Question) -> tuple[Asked, Committed]:
        """Store the first question of a new conversation."""
        starts = self._desk.has_room()
        title, author = title_of(asked.content), identity.user_id
        conversation = conversation_of(
            {"id": new_id(), "owner_id": author, "title": title, "mode": "ai", "rev": 2, "meta_rev": 0}
        )
        both = {"conversation_id": conversation.id, "steps": [], "shown_steps": [], "sources": []}
        said = {"role": "user", "status": "complete", "content": asked.content, "client_id": asked.client_id}
        question = message_of({**both, **said, "id": new_id(), "seq": 1, "rev": 1, "author_id": author})
        due = {"role": "assistant", "content": "", "question_id": question.id}
        reply = message_of({**both, **due, "id": new_id(), "seq": 2, "rev": 2})
        reply.status = "streaming" if starts else "queued"
        reply.owner, reply.attempt = (self._boot_id, 1) if starts else (None, 0)
        committed = Committed(conversation.id)
        if starts:
            self._desk.expect(reply.id)
        try:
            await begin_conversation(self._database, Begun(conversation, question, reply))
        except BaseException:
            self._desk.forget(reply.id)
            raise
        name = question.author_name or ""
        if starts:
            committed.claimed.append(Claimed(conversation.id, reply.id, 1, turn=_first_turn(identity, question, reply)))
        # Nobody can watch it yet, so nobody is told: whoever asked is shown what was just stored.
        changes = [change_of(question), change_of(reply)]
        fresh = Standing(conversation, name, reply.id if starts else None, changes)
        return Asked(conversation.id, question.id, reply.id, is_duplicate=False, rev=0, fresh=fresh), committed

    async def _commit(
        self, work: Callable[[AsyncSession], Awaitable[tuple[Asked, Committed]]]
    ) -> tuple[Asked, Committed]:
        """Do it in one transaction; what it claims is known here before the commit."""
        committed: Committed | None = None
        try:
            async with self._database.transaction() as db:
                asked, committed = await work(db)
                for claimed in committed.claimed:
                    self._desk.expect(claimed.message_id)
        except BaseException:
            self._forget(committed)
            raise
        return asked, committed

    async def _store(
        self, db: AsyncSession, identity: Identity, conversation_id: UUID, asked: Question
    ) -> tuple[Asked, Committed]:
        access = await access_conversation(db, conversation_id, identity, action="message_sent", for_update=True)
        conversation = access.conversation
        before, committed = conversation.rev, Committed(conversation.id)
        conversation.completed_at = None
        if not conversation.title:
            conversation.title = title_of(asked.content)
            conversation.rev += 1
            conversation.meta_rev = conversation.rev
            committed.changes.append(conversation_change(conversation))
        is_staff = is_operator(identity) and conversation.owner_id != identity.user_id
        is_answered = conversation.mode == "ai" and not is_staff
        live = await repository.list_live(db, conversation.id) if is_answered else []
        if live:
            self._make_way(live, asked.on_busy, committed)
        question = repository.add_message(
            db,
            conversation,
            id=new_id(),
            role="operator" if is_staff else "user",
            content=asked.content,
            author_id=identity.user_id,
            author_name=access.user_name,
            client_id=asked.client_id,
        )
        rows = [question]
        if is_answered:
            rows.append(self._add_reply(db, conversation, question, committed, can_start=not live))
        await db.flush()
        committed.changes.extend(change_of(row) for row in rows)
        reply_id = rows[1].id if is_answered else None
        return Asked(conversation.id, question.id, reply_id, is_duplicate=False, rev=before), committed

    async def _store_again(self, db: AsyncSession, identity: Identity, wish: Again) -> tuple[Asked, Committed]:
        action = "reply_regenerated" if wish.content is None else "message_edited"
        access, message = await access_message(db, wish.message_id, identity, action=action, for_update=True)
        conversation = access.conversation
        if conversation.mode == "human":
            raise HumanMode
        question = await repository.find_newest_question(db, conversation.id)
        newest = await repository.find_newest_reply(db, conversation.id)
        named = message.question_id if message.role == "assistant" else message.id
        if question is None or named != question.id or (message.role == "assistant" and message is not newest):
            raise NotLast
        if wish.content is not None and message.role != "user":
            raise NotLast
        before, committed = conversation.rev, Committed(conversation.id)
        live = await repository.list_live(db, conversation.id)
        # Only this turn gives way; what is being written for an earlier question goes on.
        ended = [row for row in live if row.question_id == question.id and row.status == "queued"]
        for row in ended:
            repository.end(conversation, row, "stopped")
        for row in live:
            if row.question_id == question.id and row.status == "streaming":
                row.status = "stopping"
                committed.stops.append(ToStop(row.id, row.owner))
        if wish.content is not None:
            question = repository.add_message(
                db,
                conversation,
                id=new_id(),
                role="user",
                content=wish.content,
                author_id=identity.user_id,
                author_name=access.user_name,
                client_id=wish.client_id,
                replaces=question.id,
            )
        is_free = len(ended) == len(live)
        await db.flush()
        reply = self._add_reply(db, conversation, question, committed, can_start=is_free)
        if wish.content is None:
            reply.replaces = newest.id if newest is not None and newest.question_id == question.id else None
            reply.author_id, reply.client_id = identity.user_id, wish.client_id
        await db.flush()
        committed.changes.extend(change_of(row) for row in (*ended, question, reply) if row.rev > before)
        return Asked(conversation.id, question.id, reply.id, is_duplicate=False, rev=before), committed

    def _check_size(self, content: str) -> None:
        most = self._settings.message_max_bytes
        if len(content) * 4 > most and len(content.encode()) > most:
            raise MessageTooLong(most)

    def _make_way(self, live: Sequence[Message], on_busy: OnBusy, committed: Committed) -> None:
        """Apply the policy for a conversation in which something is being written or waits."""
        if on_busy == "reject":
            raise Busy
        if sum(row.status == "queued" for row in live) >= self._settings.queue_max:
            raise QueueFull
        if on_busy == "interrupt" and live[0].status != "queued":
            live[0].status = "stopping"
            committed.stops.append(ToStop(live[0].id, live[0].owner))

    def _add_reply(
        self, db: AsyncSession, conversation: Conversation, question: Message, committed: Committed, *, can_start: bool
    ) -> Message:
        starts = can_start and self._desk.has_room()
        reply = repository.add_message(
            db,
            conversation,
            id=new_id(),
            role="assistant",
            question_id=question.id,
            status="streaming" if starts else "queued",
            owner=self._boot_id if starts else None,
            attempt=1 if starts else 0,
        )
        if starts:
            committed.claimed.append(Claimed(conversation.id, reply.id, 1))
        return reply

    def _forget(self, committed: Committed | None) -> None:
        for claimed in committed.claimed if committed else ():
            self._desk.forget(claimed.message_id)


@asynccontextmanager
async def _in_turn(lock: asyncio.Lock) -> AsyncIterator[None]:
    """Hold it, unless that takes too long."""
    is_ours = False
    try:
        async with asyncio.timeout(TWIN_S):
            is_ours = await lock.acquire()
    except TimeoutError:
        pass
    try:
        yield
    finally:
        if is_ours:
            lock.release()


def _first_turn(identity: Identity, question: Message, reply: Message) -> Turn:
    user = TurnUser(identity.user_id, question.author_name or "", identity.role, is_guest=identity.is_guest)
    history = [HistoryMessage("user", question.content, seq=question.seq)]
    return Turn(reply.conversation_id, reply.id, user, history)


def title_of(content: str) -> str:
    """Return what a list shows of a conversation that nobody named: how its first question begins."""
    line = " ".join("".join(char if char.isprintable() else " " for char in content).split())
    if len(line) <= TITLE_CHARACTERS:
        return line
    return line[: TITLE_CHARACTERS - 1].rsplit(" ", 1)[0].rstrip() + "…"
