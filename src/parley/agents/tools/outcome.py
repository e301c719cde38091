"""What a tool is given and what it gives back. Says nothing about how it is run."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from parley.agents.interface import TurnUser
from parley.agents.knowledge import KnowledgeBase, Passage
from parley.core.clock import Clock

_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What the container hands to all tools; `extra` is for tools that are not shipped."""

    knowledge: KnowledgeBase
    clock: Clock
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolContext:
    """For whom a call runs. The model neither sees nor fills any of it: a tool takes ids of people from here only."""

    user: TurnUser
    conversation_id: UUID
    message_id: UUID
    dependencies: Dependencies
    call_id: str = ""

    @property
    def idempotency_key(self) -> str:
        """Under which a call has its effect at most once; short and plain whatever the model calls its call."""
        call_id = self.call_id
        if not _PLAIN_ID.match(call_id):
            call_id = hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self.message_id}:{call_id}"


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What a tool found or did. With sources, what the model reads is made of them and `content` is left empty."""

    content: str = ""
    summary: str = ""
    """One line for people."""
    sources: Sequence[Passage] | None = None
    """Numbered later: see citations. An empty list says that nothing was found."""
    is_handoff: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """A call that was run, whatever came of it; `Citations.result` makes the result that is stored."""

    call_id: str
    is_ok: bool
    content: str
    summary: str = ""
    sources: Sequence[Passage] | None = None
    is_handoff: bool = False


class ToolMistake(Exception):
    """The model asked for something it cannot have, and can mend it: the sentence is told to the model as it is."""
