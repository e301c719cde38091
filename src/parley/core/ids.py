"""Ids: time-ordered UUIDs (version 7), so that new rows land at the end of their index."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """Return an id greater than every id this process made before."""
    return uuid7()
