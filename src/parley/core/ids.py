"""Ids: time-ordered UUIDs (version 7), so that new rows land at the end of their index."""

from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """Return an id greater than every id this process made before."""
    return uuid7()


def first_id_at(moment: datetime) -> UUID:
    """Return an id below every one made at this moment or later: what is older can be found by its key."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
