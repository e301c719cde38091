"""Ids of a client's own."""

from uuid import UUID, uuid4

from parley.client.errors import CommandRefused


def new_client_id() -> str:
    """Return the name of a new command: the same one, sent again, is done once."""
    return uuid4().hex


def as_id(text: str) -> UUID:
    """Return a message's id, as commands take it."""
    try:
        return UUID(text)
    except ValueError:
        raise CommandRefused("invalid_value", "This is no id of a message.") from None
