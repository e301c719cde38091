"""One event as a client sees it. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RECONNECTING = "client_reconnecting"
"""Made by the client itself: the connection was lost, and is opened again in `in_s`, because of `reason`."""


@dataclass(frozen=True, slots=True)
class Event:
    """What the server told, or the client noticed."""

    type: str
    data: Mapping[str, Any]
    """All its fields, the type among them."""
    cursor: str | None = None


def read_event(text: str | bytes, cursor: str | None = None) -> Event | None:
    """Return the event of a frame, None for what is none; a member `id` is its cursor."""
    try:
        data = json.loads(text)
    except ValueError:
        return None
    if not isinstance(data, dict) or not isinstance(kind := data.get("type"), str):
        return None
    return Event(kind, data, data.pop("id", None) or cursor)
