"""One viewer: a position, and a send under way at most. Each send takes all that follows the position.

A send is begun where the news arrives and costs no task; only one that cannot end at once, because the peer is slow,
gets a task and a deadline. Nobody waits for it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from types import coroutine
from typing import Any, ClassVar, Protocol
from uuid import UUID

import structlog

from parley.auth.schemas import Identity
from parley.chat.cursor import Position
from parley.chat.protocol import CloseCode
from parley.core.errors import AppError
from parley.core.tasks import Tasks

log = structlog.get_logger(__name__)

TOO_SLOW = (CloseCode.TRY_LATER, "too slow")
OWN_ANSWERS = 32  # that may wait behind a slow send, DESIGN 4.5
GOODBYE_S = 1.0
Payload = str | bytes


class Gone(Exception):
    """The peer is no longer there."""


class Transport(Protocol):
    """How frames reach a peer."""

    kind: ClassVar[str]
    """Its name in metrics; empty where nobody looks."""
    sign_of_life: Payload | None

    def frame(self, body: bytes, cursor: str | None) -> Payload:
        """Return an event as this transport writes it; the same for every viewer at the same position."""
        ...

    def write(self, payloads: Sequence[Payload]) -> Awaitable[None] | None:
        """Write them in order; raises Gone. Returns what is left to wait for where the peer does not read."""
        ...

    async def close(self, code: CloseCode, reason: str) -> None:
        """Say goodbye and end."""
        ...

    def abort(self) -> None:
        """End at once, whatever waits to be sent."""
        ...


@dataclass(frozen=True, slots=True)
class Stretch:
    """What follows a position, as one kind of transport writes it: the same for everybody who stands there."""

    before: Position
    framing: type[Transport]
    payloads: Sequence[Payload]
    position: Position
    ends: frozenset[UUID]


class Source(Protocol):
    """Where a viewer's news come from."""

    def following(self, viewer: "Viewer") -> Stretch | None:
        """Return what follows the viewer's position; None where it must be read first."""
        ...

    def catch_up(self, viewer: "Viewer") -> Awaitable[Sequence[Payload]]:
        """Read what follows, and move the viewer's position behind it."""
        ...


class Viewer:
    """Somebody who watches a conversation over one socket or stream."""

    __slots__ = (
        "_answers", "_busy", "_changed", "_goodbye", "_reads", "_source", "_tasks", "_transport",
        "closed", "deadline_s", "framing", "identity", "is_open", "on_answers", "position", "reached", "sent_at",
        "until",
    )  # fmt: skip

    def __init__(
        self, identity: Identity, transport: Transport, tasks: Tasks, *, deadline_s: float, until: UUID | None = None
    ) -> None:
        self.identity = identity
        self.position = Position()
        self.until = until
        """The reply whose end ends this stream."""
        self.reached = False
        """Whether that end has been told."""
        self.closed: tuple[CloseCode, str] | None = None
        self.is_open = True
        self.deadline_s = deadline_s
        self.sent_at = time.monotonic()
        self._answers: list[Payload] = []
        self._busy = True
        self._reads = False
        """Busy with reading what was missed: nothing is on its way to the peer."""
        self._goodbye: asyncio.Task[None] | None = None
        self._changed: asyncio.Event | None = None
        """There while somebody waits: of thousands of idle sockets nobody does."""
        self._source: Source | None = None
        self._tasks = tasks
        self._transport = transport
        self.framing: type[Transport] = type(transport)
        """Viewers of the same kind share what is framed for one position."""
        self.on_answers: Callable[[int], None] | None = None
        """Hears how many own answers went out."""

    def frame(self, body: bytes, cursor: str | None = None) -> Payload:
        """Return an event as this viewer gets it."""
        return self._transport.frame(body, cursor)

    def go_live(self, source: Source, first: Sequence[Payload]) -> None:
        """Send what comes first, then everything that follows."""
        self._source = source
        self._answers[:0] = first
        self._busy = False
        self.push()

    def reach(self) -> None:
        """The reply this stream waited for has ended; nothing follows."""
        self.reached = True
        self._wake()

    async def wait_ended(self) -> None:
        """Return when that reply has ended, or this connection has."""
        while not self.reached and self.is_open:
            await self._change()

    async def wait_sent(self) -> None:
        """Return when nothing is under way any more."""
        while self._busy and self.is_open:
            await self._change()
        if self._goodbye is not None:
            await asyncio.wait({self._goodbye})

    def lose(self) -> None:
        """The peer has left."""
        self.is_open = False
        self._wake()

    def push(self) -> None:
        """Send what follows the position, unless a send is under way: that one will go on with it."""
        if self._busy or not self.is_open or self._source is None:
            return
        try:
            if (self._answers and not self._send(self._take_answers())) or self.reached:
                return
            stretch = self._source.following(self)
            if stretch is None:
                self._busy = self._reads = True
                self._tasks.spawn("catch up", self._catch_up(self._source))
                return
            self.position = stretch.position
            if self.until is not None and self.until in stretch.ends:
                self.reach()
            if stretch.payloads:
                self._send(stretch.payloads)
        except Exception:  # the border of a connection: one breaks, the others go on
            log.exception("viewer_broke")
            self.close(CloseCode.INTERNAL, "internal_error")

    def answer(self, body: bytes) -> None:
        """Send an answer to this viewer alone."""
        if len(self._answers) >= OWN_ANSWERS:
            self.close(CloseCode.OVER_LIMIT, "too many answers are waiting")
            return
        self._answers.append(self._transport.frame(body, None))
        self.push()

    def hint(self, payload: Payload) -> None:
        """Send what is not replayed; a viewer that is busy misses it."""
        if not self._busy and not self._answers:
            self._answers.append(payload)
            self.push()

    def keep_alive(self, now: float, silent_s: float) -> None:
        """Send a sign of life where nothing else was sent for so long, on transports that need one."""
        payload = self._transport.sign_of_life
        if payload is not None and now - self.sent_at >= silent_s:
            self.hint(payload)

    def close(self, code: CloseCode, reason: str) -> None:
        """End this connection and say why."""
        if not self.is_open:
            return
        self.closed = (code, reason)
        is_sending = self._busy and not self._reads and self._source is not None
        if self._reads and self._answers:
            is_sending = not self._send(self._take_answers())
        self.lose()
        if is_sending:
            self._transport.abort()  # a goodbye would wait behind what the peer does not read
        else:
            self._goodbye = self._tasks.spawn("say goodbye", self._say_goodbye(code, reason))

    def _send(self, payloads: Sequence[Payload]) -> bool:
        """Begin to send; return whether that was all of it."""
        self.sent_at = time.monotonic()
        try:
            rest = self._transport.write(payloads)
        except Gone:
            self.lose()
            return False
        if rest is None:
            return True
        self._busy = True
        self._tasks.spawn("send to slow viewer", self._finish(rest))
        return False

    def _take_answers(self) -> Sequence[Payload]:
        answers, self._answers = self._answers, []
        if self.on_answers is not None:
            self.on_answers(len(answers))
        return answers

    async def _finish(self, sending: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self.deadline_s):
                await sending
        except TimeoutError:
            self.closed = TOO_SLOW
            self.lose()
            self._transport.abort()
        except Gone:
            self.lose()
        else:
            self._busy = False
            self._wake()
            self.push()

    async def _say_goodbye(self, code: CloseCode, reason: str) -> None:
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self._transport.close(code, reason)
        except (TimeoutError, Gone):
            self._transport.abort()

    async def _catch_up(self, source: Source) -> None:
        try:
            payloads = await source.catch_up(self)
            self._answers.extend(payloads)
        except AppError as error:
            self.close(CloseCode.TRY_LATER if error.retryable else CloseCode.GONE, error.code)
        except Exception:  # the border of a connection, as in `push`
            log.exception("viewer_broke")
            self.close(CloseCode.INTERNAL, "internal_error")
        self._busy = self._reads = False
        self._wake()
        self.push()

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


def begin(sending: Coroutine[Any, Any, None]) -> Awaitable[None] | None:
    """Take a coroutine's first step here, outside a task; return the rest of it, if there is any."""
    try:
        waits_for = sending.send(None)
    except StopIteration:
        return None
    return _resumed(sending, waits_for)


@coroutine
def _resumed(sending: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Go on with a coroutine whose first step was taken outside a task."""
    while True:
        try:
            value = yield waits_for
        except BaseException as error:  # noqa: BLE001  # handed on to where it belongs
            step: Callable[[Any], Any] = sending.throw
            value = error
        else:
            step = sending.send
        try:
            waits_for = step(value)
        except StopIteration:
            return
