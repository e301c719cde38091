"""From rows to what an agent is asked: the history before a reply, whose rights its tools have, and earlier steps."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from parley.agents.interface import HistoryMessage, Step, Turn, TurnUser
from parley.chat.models import LIVE
from parley.chat.statements import TURN
from parley.core.database import Database

NOBODY = UUID(int=0)  # whoever asked has gone; tools then have nobody's rights


async def read_turn(database: Database, message_id: UUID, limit: int) -> Turn | None:
    """Return the turn of a reply; None where it, or its question, is no longer there."""
    rows = await database.fetch(TURN, message_id, limit)
    question = next((row for row in rows if row["id"] == row["question_id"]), None)
    if question is None:
        return None
    name = question["name"] or question["author_name"] or ""
    is_guest = question["user_id"] is None or question["is_guest"]
    return Turn(
        conversation_id=question["conversation_id"],
        message_id=message_id,
        user=TurnUser(question["user_id"] or NOBODY, name, question["user_role"] or "user", is_guest=is_guest),
        history=history_of(rows, question),
        agent=question["agent"],
        rev=question["rev"],
        steps=read_steps(question["steps_so_far"]),
    )


def history_of(rows: Sequence[Mapping[str, Any]], question: Mapping[str, Any]) -> Sequence[HistoryMessage]:
    """Return what was said before a reply and still counts, the question last."""
    replaced = {row["replaces"] for row in rows} | {question["replaces_too"]}
    replaced.discard(None)
    kept = [
        row
        for row in rows
        if row["seq"] < question["seq"]
        and row["status"] not in LIVE
        and row["content"]
        and not replaced & {row["id"], row["answers"]}
    ]
    return [
        HistoryMessage(row["role"], row["content"], read_steps(row["steps"]), seq=row["seq"])
        for row in (*kept, question)
    ]


def read_steps(stored: Sequence[Any]) -> Sequence[Step]:
    """Return steps as the agents know them."""
    return msgspec.convert(stored, list[Step]) if stored else ()


def stored_steps(steps: Sequence[Step]) -> list[Any]:
    """Return steps as they are stored."""
    stored: list[Any] = msgspec.to_builtins(list(steps))
    return stored
