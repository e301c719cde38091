"""A committed change as hubs keep it and workers tell it: the newest state of a row, and how a reply ended. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from parley.chat import protocol


@dataclass(frozen=True, slots=True)
class Ending:
    """How a reply ended."""

    rev: int
    attempt: int
    tape_end: int
    body: bytes
    """Of its `complete` event."""

    @property
    def digest(self) -> tuple[int, str]:
        """Return the length and hash that its event carries."""
        event = orjson.loads(self.body)
        return event["content_length"], event["content_sha256"]


@dataclass(slots=True)
class Change:
    """One committed change: the newest state of the row that took this `rev`."""

    rev: int
    message_id: UUID | None
    """None for a change of the conversation itself."""
    view: Mapping[str, Any]
    ending: Ending | None = None
    is_settled: bool = False
    """Whether it is known if the tape of an ended reply is here to its end."""
    _body: bytes = b""

    @property
    def body(self) -> bytes:
        """Return the `message` or `conversation` event; made when somebody first needs it."""
        if not self._body:
            make: Any = protocol.conversation if self.message_id is None else protocol.message
            self._body = make(self.view)
        return self._body

    @property
    def is_live(self) -> bool:
        """Whether it is a reply that is being written."""
        return self.message_id is not None and self.view["status"] in {"streaming", "stopping"}

    def to_news(self) -> dict[str, Any]:
        """Return it as other workers are told."""
        ending = self.ending
        return {
            "rev": self.rev,
            "message": self.message_id is not None,
            "view": self.view,
            "end": None if ending is None else [ending.rev, ending.attempt, ending.tape_end, ending.body.decode()],
        }

    @classmethod
    def from_news(cls, news: Mapping[str, Any]) -> "Change":
        """Return what another worker told."""
        view, end = news["view"], news["end"]
        ending = None if end is None else Ending(end[0], end[1], end[2], end[3].encode())
        return cls(news["rev"], UUID(view["id"]) if news["message"] else None, view, ending)
