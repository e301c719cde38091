"""From rows to what an agent is asked: the history before a reply, whose rights its tools have, and earlier steps."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from parley.agents.interface import HistoryMessage, Step, Turn, TurnUser
from parley.chat import repository
from parley.chat.models import LIVE, Message
from parley.core.database import Database


async def read_turn(database: Database, message_id: UUID, limit: int) -> Turn | None:
    """Return the turn of a reply; None where it is no longer there."""
    async with database.transaction() as db:
        reply = await repository.find_message(db, message_id)
        if reply is None:
            return None
        rows = await repository.list_history(db, reply.conversation_id, reply.seq, limit)
        question = next((row for row in rows if row.id == reply.question_id), None)
        if question is None:
            return None
        conversation = await repository.find_conversation(db, reply.conversation_id)
        user = await repository.find_user(db, question.author_id) if question.author_id else None
    return Turn(
        conversation_id=reply.conversation_id,
        message_id=reply.id,
        user=user or TurnUser(UUID(int=0), question.author_name or "", "user", is_guest=True),
        history=list(history_of(rows, reply, question)),
        agent=conversation.agent if conversation else None,
        steps=read_steps(reply.steps),
    )


def history_of(rows: Sequence[Message], reply: Message, question: Message) -> Sequence[HistoryMessage]:
    """Return what was said before a reply and still counts, the question last."""
    replaced = {row.replaces for row in (*rows, reply) if row.replaces is not None}
    kept = [
        row
        for row in rows
        if row.id != question.id
        and row.seq < question.seq
        and row.status not in LIVE
        and row.content
        and not replaced & {row.id, row.question_id}
    ]
    return [
        HistoryMessage(row.role, row.content, read_steps(row.steps), seq=row.seq)  # type: ignore[arg-type]
        for row in (*kept, question)
    ]


def read_steps(stored: Sequence[Any]) -> Sequence[Step]:
    """Return steps as the agents know them."""
    return msgspec.convert(stored, list[Step])


def stored_steps(steps: Sequence[Step]) -> list[Any]:
    """Return steps as they are stored."""
    stored: list[Any] = msgspec.to_builtins(list(steps))
    return stored
