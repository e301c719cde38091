"""What happens to a guest's conversations when the guest turns out to be a user who is known already."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# Conversations first, as everybody does who locks both; both users then, so that neither writes anything meanwhile.
_LOCK_CONVERSATIONS = text("SELECT id FROM conversations WHERE owner_id = :was ORDER BY id FOR UPDATE")
_LOCK_USERS = text("SELECT id FROM users WHERE id IN (:was, :now) ORDER BY id FOR UPDATE")
# The same client_id may have been used by both: then it stays the heir's, and the guest's is answered already.
_MESSAGES = text("""
    UPDATE messages m SET author_id = :now, client_id = CASE WHEN EXISTS (
        SELECT FROM messages o WHERE o.author_id = :now AND o.client_id = m.client_id)
        THEN NULL ELSE m.client_id END
    FROM conversations c WHERE c.owner_id = :was AND m.conversation_id = c.id AND m.author_id = :was
""")
_INVITATIONS = text("""
    INSERT INTO participants (conversation_id, user_id, invited_by)
    SELECT p.conversation_id, :now, p.invited_by FROM participants p JOIN conversations c ON c.id = p.conversation_id
    WHERE p.user_id = :was AND c.owner_id <> :now ON CONFLICT DO NOTHING
""")
_CONVERSATIONS = text("""
    UPDATE conversations c SET owner_id = :now, client_id = CASE WHEN EXISTS (
        SELECT FROM conversations o WHERE o.owner_id = :now AND o.client_id = c.client_id)
        THEN NULL ELSE c.client_id END
    WHERE c.owner_id = :was
""")


async def hand_over(db: AsyncSession, was: UUID, now: UUID) -> None:
    """Give everything that is `was`'s to `now`, in the caller's transaction; both users' rows are locked.

    No `rev` is taken: who may still watch sees the same text, and the author's name stays what it was when it was said.
    """
    people = {"was": was, "now": now}
    await db.execute(_LOCK_CONVERSATIONS, {"was": was})
    for statement in (_LOCK_USERS, _MESSAGES, _INVITATIONS, _CONVERSATIONS):
        await db.execute(statement, people)
