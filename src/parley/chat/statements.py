"""A plain question in one statement each: it begins a conversation, its turn is read, its reply ends.

By the driver, without a session: everybody waits for these. What does not fit goes through `repository`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import orjson

from parley.chat.models import Conversation, Message
from parley.chat.tape import digest
from parley.core.database import Database

MESSAGE_COLUMNS = tuple(column.key for column in Message.__table__.columns if column.key != "search")

_NO_MESSAGE = dict.fromkeys(MESSAGE_COLUMNS)
_NO_CONVERSATION = {column.key: None for column in Conversation.__table__.columns if column.key != "search"}

KNOWS = "SELECT FROM messages WHERE author_id = $1 AND client_id = $2"

BEGIN = """
WITH c AS (
    INSERT INTO conversations (id, owner_id, title, mode, rev, meta_rev, last_seq) VALUES ($1, $2, $3, 'ai', 2, 0, 2)
), q AS (
    INSERT INTO messages (id, conversation_id, seq, rev, role, content, status, author_id, author_name, client_id)
    VALUES ($4, $1, 1, 1, 'user', $5, 'complete', $2, (SELECT u.name FROM users u WHERE u.id = $2), $6)
), r AS (
    INSERT INTO messages (id, conversation_id, seq, rev, role, status, question_id, owner, attempt)
    VALUES ($7, $1, 2, 2, 'assistant', $8, $4, $9, $10)
)
SELECT now() AS at, (SELECT u.name FROM users u WHERE u.id = $2) AS name
"""

# Locked first, as everybody does. Where a reply waits behind this one, or the conversation is gone, nothing is done:
# promoting takes more than one statement. Nor where somebody changed the conversation while this waited for the lock:
# what was added meanwhile is not seen here.
END = f"""
WITH c AS (
    SELECT id, rev FROM conversations WHERE id = $1 AND deleted_at IS NULL FOR UPDATE
), e AS (
    UPDATE messages m SET status = CASE WHEN m.status = 'stopping' THEN 'stopped' ELSE $5 END,
        content = $6, finish_reason = $7, error_code = $8, error_message = $9, is_retryable = $10, content_length = $11,
        content_sha256 = $12, tape_end = $13, shown_steps = $14, sources = $15, agent = $16, agent_version = $17,
        model = $18, ended_at = now(), rev = c.rev + 1, ended_rev = c.rev + 1
    FROM c WHERE m.id = $2 AND m.attempt = $3 AND m.owner = $4 AND m.status IN ('streaming', 'stopping')
    AND NOT EXISTS (SELECT FROM messages w WHERE w.conversation_id = $1 AND w.status = 'queued')
    AND c.rev = (SELECT s.rev FROM conversations s WHERE s.id = $1)
    RETURNING m.*
), b AS (
    UPDATE conversations v SET rev = e.rev, active_at = now() FROM e WHERE v.id = e.conversation_id
)
SELECT {", ".join(MESSAGE_COLUMNS)} FROM e
"""  # noqa: S608  # our own column names

TURN = """
SELECT r.conversation_id, r.question_id, r.replaces AS replaces_too, c.agent, c.rev,
    u.id AS user_id, u.name, u.role AS user_role, u.email IS NULL AND u.site_id IS NULL AS is_guest,
    CASE WHEN h.id = r.question_id THEN r.steps END AS steps_so_far,
    h.id, h.seq, h.role, h.content, h.status, h.replaces, h.question_id AS answers, h.steps, h.author_name
FROM messages r JOIN conversations c ON c.id = r.conversation_id
JOIN LATERAL (
    SELECT * FROM messages n WHERE n.conversation_id = r.conversation_id AND n.seq < r.seq ORDER BY n.seq DESC LIMIT $2
) h ON TRUE
LEFT JOIN users u ON u.id = (SELECT s.author_id FROM messages s WHERE s.id = r.question_id)
WHERE r.id = $1 ORDER BY h.seq
"""


@dataclass(frozen=True, slots=True)
class Begun:
    """A conversation that has just begun, with its first question and the reply to it."""

    conversation: Conversation
    question: Message
    reply: Message


async def begin_conversation(database: Database, begun: Begun) -> Begun:
    """Store a new conversation, committed in itself; raise AlreadyThere for a `client_id` that is known."""
    conversation, question, reply = begun.conversation, begun.question, begun.reply
    [stored] = await database.fetch(
        BEGIN,
        conversation.id,
        conversation.owner_id,
        conversation.title,
        question.id,
        question.content,
        question.client_id,
        reply.id,
        reply.status,
        reply.owner,
        reply.attempt,
    )
    question.created_at = reply.created_at = stored["at"]
    question.author_name = stored["name"] or ""
    return begun


async def end_reply(  # the columns of an end
    database: Database,
    conversation_id: UUID,
    message_id: UUID,
    *,
    attempt: int,
    owner: UUID,
    status: str,
    content: str,
    finish_reason: str | None,
    error: tuple[str, str, bool] | None,
    tape_end: int,
    shown_steps: Sequence[Any],
    sources: Sequence[Any],
    agent: tuple[str | None, int | None, str | None],
) -> Message | None:
    """End a reply behind which none waits, committed in itself; None where that is not what it is."""
    length, sha256 = digest(content)
    rows = await database.fetch(
        END,
        conversation_id,
        message_id,
        attempt,
        owner,
        status,
        content,
        finish_reason,
        *(error or (None, None, None)),
        length,
        bytes.fromhex(sha256),
        tape_end,
        orjson.dumps(shown_steps).decode(),
        orjson.dumps(sources).decode(),
        *agent,
    )
    return message_of(rows[0]) if rows else None


def message_of(values: Any) -> Message:
    """Return a row of the driver as a message of no session; what is not named is None.

    It only looks like one: making one of SQLAlchemy's takes ten times as long, and whoever joins is shown fifty.
    """
    return cast("Message", SimpleNamespace(**_NO_MESSAGE | dict(values)))


def conversation_of(values: Any) -> Conversation:
    """Do the same for a conversation."""
    return cast("Conversation", SimpleNamespace(**_NO_CONVERSATION | dict(values)))
