"""Committed rows as viewers see them: the view of a message or conversation, and a change of one. No queries.

Until a reply ends its content, steps and sources are empty here: the tape brings them.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

from parley.chat import protocol
from parley.chat.changes import Change, Ending
from parley.chat.models import ENDED, LIVE, Conversation, Message


def change_of(row: Message) -> Change:
    """Return a message's row as a change at its `rev`."""
    return Change(row.rev, row.id, message_view(row), ending_of(row))


def conversation_change(row: Conversation) -> Change:
    """Return the conversation's own row as a change at its mark."""
    view = conversation_view(row)
    return Change(row.meta_rev, None, {**view, "rev": row.meta_rev})


def in_order(changes: Iterable[Change], conversation: Conversation, after_rev: int) -> list[Change]:
    """Return all changes after a rev in order, the conversation's own among them.

    Of a reply that was changed again after its end, by a rating, the end is told at its own place as well: a viewer
    that is cut between the two, or is given another reply there, would never be told.
    """
    found = list(changes)
    again = (change for change in found if change.ending is not None and after_rev < change.ending.rev < change.rev)
    found.extend([replace(change, rev=change.ending.rev) for change in again if change.ending is not None])
    if conversation.meta_rev > after_rev:
        found.append(conversation_change(conversation))
    return sorted(found, key=lambda change: change.rev)


def ending_of(row: Message) -> Ending | None:
    """Return how a reply ended, None for everything else."""
    if row.role != "assistant" or row.status not in ENDED or row.ended_rev is None:
        return None
    return Ending(row.ended_rev, row.attempt, row.tape_end or 0, complete_body(row))


def complete_body(row: Message) -> bytes:
    """Return the `complete` event of an ended reply."""
    error = None
    if row.error_code is not None:
        error = protocol.error_view(row.error_code, row.error_message or "", retryable=bool(row.is_retryable))
    return protocol.complete(
        row.id,
        cast("protocol.End", row.status),
        row.finish_reason,
        row.content_length or 0,
        (row.content_sha256 or b"").hex(),
        error=error,
    )


def message_view(row: Message) -> protocol.MessageView:
    """Return a message as it goes over the wire."""
    is_live = row.status in LIVE
    has_author = row.role != "assistant" and row.author_name is not None
    return {
        "id": str(row.id),
        "conversation_id": str(row.conversation_id),
        "seq": row.seq,
        "rev": row.rev,
        "role": cast("protocol.Role", row.role),
        "content": "" if is_live else row.content,
        "status": cast("protocol.Status", row.status),
        "author": {"id": str(row.author_id or ""), "name": row.author_name or ""} if has_author else None,
        "created_at": protocol.moment(row.created_at),
        "client_id": row.client_id,
        "steps": [] if is_live else row.shown_steps,
        "sources": [] if is_live else row.sources,
        "replaces": str(row.replaces) if row.replaces else None,
        "feedback": {"rating": cast("protocol.Rating", row.rating), "comment": row.rating_comment}
        if row.rating
        else None,
    }


def conversation_view(row: Conversation) -> protocol.ConversationView:
    """Return a conversation as it goes over the wire."""
    return {
        "id": str(row.id),
        "title": row.title,
        "mode": cast("protocol.Mode", row.mode),
        "archived": row.archived_at is not None,
        "rev": row.rev,
    }
