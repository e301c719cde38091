"""One conversation that is watched here: its hub, its viewers, and the bytes that all who stand at one place share."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from parley.chat.changes import Change
from parley.chat.connection import Payload, Stretch, Viewer
from parley.chat.cursor import Position, cursor_prefix, encode_cursor
from parley.chat.hub import Frame, Hub
from parley.chat.protocol import CloseCode
from parley.chat.reading import Standing

News = bytes | Sequence[Change]


@dataclass(slots=True, eq=False)
class Watched:
    """What a hub needs to be one; where its viewers' news come from (`connection.Source`)."""

    hub: Hub
    subscribed: asyncio.Task[bool]
    read_missed: Callable[["Watched", Viewer], Awaitable[Sequence[Payload]]]
    """For a viewer that stands where the hub no longer reaches."""
    prefix: str = ""
    """Of its cursors."""
    timeline: str = ""
    """Of the database it was read from; none where it is to be read anew."""
    viewers: set[Viewer] = field(default_factory=set)
    holds: int = 0
    is_loaded: bool = False
    owner_id: UUID | None = None
    early: list[News] = field(default_factory=list)
    """News that came before the first read."""
    shared: dict[tuple[type, Position], Stretch] = field(default_factory=dict)
    last_shared: Stretch | None = None
    """Nearly everybody stands where the last one stood: told by identity, which costs no hash."""
    is_reading: bool = False
    reads_again: bool = False
    leaving: asyncio.TimerHandle | None = None

    @property
    def conversation_id(self) -> UUID:
        return self.hub.conversation_id

    def begin(self, standing: Standing, timeline: str) -> Sequence[News]:
        """Start from what was read; return what was heard before."""
        self.is_loaded, self.timeline = True, timeline
        self.prefix = cursor_prefix(timeline, self.conversation_id)
        self.hub.begin(standing.conversation.rev, standing.live)
        self.share_anew()
        early, self.early = self.early, []
        return early

    def start_over(self) -> None:
        """Know nothing any more: whoever comes next reads it."""
        self.is_loaded, self.timeline = False, ""

    def share_anew(self) -> None:
        """What follows a position is not what it was."""
        self.shared.clear()
        self.last_shared = None

    def following(self, viewer: Viewer) -> Stretch | None:
        """Return what follows the viewer's position; whoever stands at the same place shares the bytes."""
        last = self.last_shared
        if last is not None and last.before is viewer.position and last.framing is viewer.framing:
            return last
        shared = self.last_shared = self._stretch(viewer)
        return shared

    def _stretch(self, viewer: Viewer) -> Stretch | None:
        key = (viewer.framing, viewer.position)
        shared = self.shared.get(key)
        if shared is None:
            frames = self.hub.follow(viewer.position)
            if frames is None:
                return None
            position = frames[-1].position if frames else viewer.position
            ends = frozenset(frame.ends for frame in frames if frame.ends is not None)
            payloads = self.framed(viewer, frames)
            shared = self.shared[key] = Stretch(viewer.position, viewer.framing, payloads, position, ends)
        return shared

    def catch_up(self, viewer: Viewer) -> Awaitable[Sequence[Payload]]:
        """Read what a viewer has missed and the hub no longer has."""
        return self.read_missed(self, viewer)

    def framed(self, viewer: Viewer, frames: Sequence[Frame]) -> list[Payload]:
        """Return events as this viewer gets them, each with its cursor."""
        return [viewer.frame(frame.body, encode_cursor(self.prefix, frame.position)) for frame in frames]

    def hint(self, body: bytes, but: Viewer | None = None) -> None:
        """Show an event that is not replayed."""
        framed: dict[type, Payload] = {}
        for viewer in self.viewers:
            if viewer is not but:
                payload = framed.get(viewer.framing)
                if payload is None:
                    payload = framed[viewer.framing] = viewer.frame(body)
                viewer.hint(payload)

    def end_all(self, code: CloseCode, reason: str) -> None:
        """End every connection to it."""
        for viewer in tuple(self.viewers):
            viewer.close(code, reason)
