"""A client with its own memory, over all its connections; what it is told is checked against the truth at once."""

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from tests.chat.model.rules import Violation
from tests.chat.model.watching import Connection

from parley.chat.cursor import Position, decode_cursor
from parley.client.errors import ContentMismatch
from parley.client.state import State, fold

if TYPE_CHECKING:
    from tests.chat.model.worker import Worker
    from tests.chat.model.world import World

TEXT_EVENTS = {"start", "token", "tool_call", "tool_result", "sources"}
GIVES_UP_S = 2.5


class Client:
    """A browser tab, so to say."""

    def __init__(self, world: "World", number: int, since: Position | None = None) -> None:
        self._world = world
        self.number = number
        self.since = since
        self.connection: Connection | None = None
        self.opened_at = 0.0
        self._reset_memory()

    def __str__(self) -> str:
        return f"viewer {self.number}"

    def _reset_memory(self) -> None:
        self.state = State()
        self.cursor: str | None = None
        self.position = Position()
        self.ended_in_reset: set[str] = set()
        self.completes = Counter[str]()
        self._text_attempts: dict[str, int] = {}
        self._row_revs: dict[str, int] = {}

    # Connections.

    def connect(self, worker: "Worker | None" = None) -> None:
        """Open a connection, to any worker there is."""
        world = self._world
        found = [one for one in world.workers if one.is_alive and not one.is_draining]
        if self.connection is not None:
            return
        if not found:
            world.schedule.after(0.2, self.connect)
            return
        worker = worker or world.random.choice(found)
        world.note(f"{self} connects to {worker} with {self.position if self.cursor else self.since}")
        self.connection = Connection(self)
        self.opened_at = float("inf")
        self._row_revs.clear()
        since = None if self.cursor else self.since
        worker.later(world.delay(), partial(worker.watching.open, self.connection, self.cursor, since))
        world.schedule.after(GIVES_UP_S, partial(self._give_up, self.connection))

    def enter(self, connection: Connection) -> None:
        """The worker let it in."""
        if connection is self.connection:
            self.opened_at = self._world.schedule.now

    def cut(self) -> None:
        """Lose everything that is under way, and come back."""
        if self.connection is None:
            return
        self._world.note(f"{self} is cut")
        connection, self.connection = self.connection, None
        connection.is_open = False
        for worker in self._world.workers:
            if connection in worker.watching.connections:
                worker.watching.leave(connection)
        self._world.schedule.after(self._world.random.uniform(0.02, 1.0), self.connect)

    def lose(self, connection: Connection) -> None:
        """The other side closed."""
        if connection is self.connection:
            self.cut()

    def reload(self) -> None:
        """Forget all, as a page does that is loaded anew."""
        self._reset_memory()
        self.since = None
        self.cut()

    def _give_up(self, connection: Connection) -> None:
        if connection is self.connection and self.opened_at > self._world.schedule.now:
            self.cut()

    # What it is told.

    def take(self, connection: Connection, payload: str) -> None:
        """Fold an event, and compare with what is true."""
        if connection is not self.connection:
            return
        event = orjson.loads(payload)
        cursor = event.pop("id")
        found = decode_cursor(cursor)
        if found is None:
            raise Violation("a cursor cannot be read")
        self._world.note_event(self, event, found.position)
        if event["type"] == "reset":
            self._take_reset(event)
        elif found.position.rev < self.position.rev:
            raise Violation("a cursor went backwards")
        if event["type"] == "message":
            self._check_row(event["message"])
        self._check(event, found.position)
        try:
            self.state = fold(self.state, event)
        except ContentMismatch as mismatch:
            raise Violation(f"the text is not what its end says: {mismatch.message_id}") from mismatch
        self.cursor, self.position = cursor, found.position
        self._check_text()

    def _take_reset(self, event: Any) -> None:
        self._reset_memory()
        self.since = None
        self.ended_in_reset = {row["id"] for row in event["messages"] if row["status"] not in {"queued", "streaming"}}
        self.ended_in_reset -= {row["id"] for row in event["messages"] if row["status"] == "stopping"}

    def _check_row(self, row: Any) -> None:
        if row["rev"] < self._row_revs.get(row["id"], 0):
            raise Violation("a row went backwards on one connection")
        self._row_revs[row["id"]] = row["rev"]

    def _check(self, event: Any, position: Position) -> None:
        kind, message_id = event["type"], event.get("message_id", "")
        if kind in TEXT_EVENTS or kind == "restart":
            if self.completes[message_id]:
                raise Violation(f"{kind} came after complete")
            if str(position.reply) != message_id:
                raise Violation("the cursor does not name the reply")
        if kind in TEXT_EVENTS:
            if self._text_attempts.setdefault(message_id, position.attempt) != position.attempt:
                raise Violation("a later attempt's text came without a restart")
        elif kind == "restart":
            self._text_attempts[message_id] = event["attempt"]
        elif kind == "complete":
            self.completes[message_id] += 1
            if self.completes[message_id] > 1:
                raise Violation("complete came twice")

    def _check_text(self) -> None:
        """What is shown of a live reply is what its attempt wrote, up to the cursor: nothing missing, nothing twice."""
        reply, attempt, n = self.position.reply, self.position.attempt, self.position.n
        row = self.state.messages.get(str(reply))
        if reply is None or row is None or row["status"] not in {"queued", "streaming", "stopping"}:
            return
        live = self.state.lives.get(str(reply))
        if (live.text if live else "") != self._world.text_of(reply, attempt, n):
            raise Violation("the text is not a prefix of what was written")

    def check_end(self, rows: dict[UUID, Any], talk: Any) -> None:
        """Nothing goes on any more: everything shown is what the database holds."""
        if self.connection is None:
            raise Violation(f"{self} has no connection")
        if self.state.lives:
            raise Violation(f"{self} still shows a reply as being written")
        least = self.since.rev if self.since is not None else 0
        for row in rows.values():
            if row.rev > least or self.state.find(str(row.id)) is not None:
                self._check_shown(row, least)
        held = self.state.conversation or {}
        if talk.meta_rev > least and (held.get("title"), held.get("mode")) != (talk.title, talk.mode):
            raise Violation(f"{self} shows another title or mode than there is")

    def _check_shown(self, row: Any, least: int) -> None:
        shown = self.state.find(str(row.id))
        if shown is None:
            raise Violation(f"{self} never heard of a message")
        if (shown.status, shown.content) != (row.status, row.content):
            raise Violation(f"{self} shows another {shown.role} than there is: {shown.status} not {row.status}")
        if list(shown.steps) != row.shown_steps or list(shown.sources) != row.sources:
            raise Violation(f"{self} shows other steps or sources than there are")
        if (shown.row["feedback"] or {}).get("rating") != row.rating:
            raise Violation(f"{self} shows another rating than there is")
        is_told = str(row.id) not in self.ended_in_reset and (row.ended_rev or 0) > least
        if row.role == "assistant" and self.completes[str(row.id)] != is_told:
            raise Violation(f"{self} was told {self.completes[str(row.id)]} ends of a reply")
