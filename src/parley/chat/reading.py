"""What a viewer is given when it comes or has fallen behind: read from the database, in one statement.

Decides between going on from a cursor and a `reset`; knows no sockets and no Redis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from uuid import UUID

from parley.auth.schemas import Identity
from parley.chat import protocol, repository
from parley.chat.access import DOOR_SQL, is_operator
from parley.chat.changes import Change
from parley.chat.cursor import Position
from parley.chat.errors import ConversationNotFound
from parley.chat.hub import FindTape, Frame, follow_change
from parley.chat.models import Conversation, Message
from parley.chat.rows import change_of, conversation_view, in_order, message_view
from parley.chat.statements import MESSAGE_COLUMNS, conversation_of, message_of
from parley.core.database import Database

RESET_ROWS = 50  # DESIGN 4.5
# By the driver, all in one statement: who comes waits for it, and everybody comes at once.
_OF_CONVERSATION = ("id", "owner_id", "title", "mode", "archived_at", "rev", "meta_rev")
_STATEMENT = (
    "SELECT {conversation}, (SELECT u.name FROM users u WHERE u.id = $2) AS user_name,"
    " (SELECT l.id FROM messages l WHERE l.conversation_id = c.id AND l.status IN ('streaming', 'stopping')) AS live,"
    " {message} FROM conversations c LEFT JOIN LATERAL (SELECT * FROM messages n WHERE n.conversation_id = c.id{which})"
    " m ON TRUE WHERE {door} ORDER BY {order}"
)
_PARTS = {
    "conversation": ", ".join(f"c.{name} AS c_{name}" for name in _OF_CONVERSATION),
    "message": ", ".join(f"m.{name}" for name in MESSAGE_COLUMNS),
    "door": DOOR_SQL,
}
CHANGED = _STATEMENT.format(which=" AND n.rev > $4 ORDER BY n.rev LIMIT $5", order="m.rev", **_PARTS)
NEWEST = _STATEMENT.format(which=" ORDER BY n.seq DESC LIMIT $4", order="m.seq DESC", **_PARTS)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a conversation stands, as one viewer may see it."""

    conversation: Conversation
    user_name: str
    live: UUID | None
    """The reply that is being written."""
    changes: Sequence[Change] | None
    """After the position that was asked for; None: it cannot be continued."""
    reset: bytes = b""
    """The body of a `reset`, where there is no going on."""

    def frames(self, position: Position | None, find_tape: FindTape) -> tuple[list[Frame], Position]:
        """Return what leads from a position to here."""
        rev = self.conversation.rev
        if position is None or self.changes is None:
            position = Position(rev, self.live)
            return [Frame(self.reset, position)], position
        frames: list[Frame] = []
        for change in self.changes:
            frames.extend(follow_change(position, change, find_tape))
            position = frames[-1].position
        return frames, position._replace(rev=rev)


async def read_standing(
    database: Database, identity: Identity, conversation_id: UUID, position: Position | None, reason: str
) -> Standing:
    """Read what follows a position, or everything new where that is too much; raise ConversationNotFound."""
    read = partial(_read, database, identity, conversation_id)
    if position is not None:
        found = await read(CHANGED, position.rev, repository.CHANGES_AT_ONCE + 1)
        conversation = found.conversation
        if position.rev <= conversation.rev and len(found.rows) <= repository.CHANGES_AT_ONCE:
            changes = in_order(map(change_of, found.rows), conversation, position.rev)
            return Standing(conversation, found.user_name, found.live, changes)
        reason = "ahead" if position.rev > conversation.rev else "behind"
    found = await read(NEWEST, RESET_ROWS + 1)
    body = protocol.reset(
        reason,
        conversation_view(found.conversation),
        [message_view(row) for row in found.rows[:RESET_ROWS][::-1]],
        has_more=len(found.rows) > RESET_ROWS,
    )
    return Standing(found.conversation, found.user_name, found.live, None, body)


class _Found(NamedTuple):
    conversation: Conversation
    user_name: str
    live: UUID | None
    rows: Sequence[Message]


async def _read(database: Database, identity: Identity, conversation_id: UUID, statement: str, *values: int) -> _Found:
    records = await database.fetch(statement, conversation_id, identity.user_id, is_operator(identity), *values)
    if not records:
        raise ConversationNotFound
    first = records[0]
    conversation = conversation_of({name: first[f"c_{name}"] for name in _OF_CONVERSATION})
    rows = [message_of(record) for record in records if record["id"] is not None]
    return _Found(conversation, first["user_name"] or "", first["live"], rows)
