"""Watching a conversation: events as they come, over WebSocket or SSE, through every reconnect."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from parley.chat.protocol import Chat, Command, Edit, Feedback, OnBusy, Rating, Regenerate, Stop, Typing, encode_command
from parley.client.comeback import Interrupted
from parley.client.commanding import Commanding, Taken
from parley.client.errors import ConnectionLost, ParleyError
from parley.client.events import Event
from parley.client.following import Following
from parley.client.ids import as_id, new_client_id
from parley.client.links import Headers, open_socket, socket_events
from parley.client.state import State

WAITING = 1000  # events; then nothing more is read until somebody takes some
AT_ONCE = 50  # events that are there already; then it is everybody else's turn
Url = Callable[[str | None], Awaitable[str]]
"""Gives the address for a cursor; a new one each time, for there may be a ticket in it."""
Connect = Callable[[Following], Awaitable[AsyncGenerator[Event]]]
_Item = tuple[Event, State]


class Watch(ABC):
    """Events of a conversation, each with the state it leads to: `async with`, then `async for`."""

    def __init__(self, following: Following) -> None:
        self.state = State()
        """After the event that was taken last."""
        self._following = following
        self._items: asyncio.Queue[_Item | None] = asyncio.Queue()
        self._has_room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def cursor(self) -> str | None:
        """Where another stream could read on, with this one's state."""
        return self._following.cursor

    async def __aenter__(self) -> Self:
        """Begin to read."""
        self._task = asyncio.create_task(self._keep(), name="parley-watch")
        self._task.add_done_callback(lambda _: self._end())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ParleyError):
                await self._task

    def __aiter__(self) -> Self:
        """Iterate over the events; may be done in turns."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event; raises what ended the stream."""
        item = await self._items.get()
        self._has_room.set()
        if item is None:
            self._items.put_nowait(None)
            if self._task is not None and not self._task.cancelled() and (error := self._task.exception()):
                raise error
            raise StopAsyncIteration
        event, self.state = item
        return event

    async def _keep(self) -> None:
        while True:
            self._following.open()
            ended = Interrupted("come_back", "stream_ended", "The stream ended.")
            try:
                async with aclosing(await self._connect()) as events:
                    async for event in events:
                        await self._take(event)
            except Interrupted as interrupted:
                ended = interrupted
            event = self._following.come_back(ended)
            await self._put(event)
            await asyncio.sleep(event.data["in_s"])

    async def _take(self, event: Event) -> None:
        self._following.take(event)
        await self._put(event)

    async def _put(self, event: Event) -> None:
        while self._items.qsize() >= WAITING and not self._must_read():
            self._has_room.clear()
            await self._has_room.wait()
        self._items.put_nowait((event, self._following.state))
        if self._items.qsize() % AT_ONCE == 0:
            await asyncio.sleep(0)

    def _must_read(self) -> bool:
        """Whether something is awaited that only reading on can bring."""
        return False

    def _end(self) -> None:
        self._items.put_nowait(None)

    @abstractmethod
    async def _connect(self) -> AsyncGenerator[Event]:
        """Open a connection and yield what it brings."""


class StreamWatch(Watch):
    """Over SSE: to look on; commands go over HTTP."""

    def __init__(self, following: Following, connect: Connect) -> None:
        super().__init__(following)
        self._connect_to = connect

    async def _connect(self) -> AsyncGenerator[Event]:
        return await self._connect_to(self._following)


class SocketWatch(Watch):
    """Over WebSocket: to look on and to take part. A command is sent again until it is answered, under one id."""

    def __init__(self, following: Following, url: Url, *, deadline_s: float) -> None:
        super().__init__(following)
        self._url = url
        self._deadline_s = deadline_s
        self._commanding = Commanding()
        self._socket: ClientConnection | None = None

    async def send(self, content: str, *, client_id: str | None = None, on_busy: OnBusy = "queue") -> Taken:
        """Ask; returns when the question is stored."""
        return await self._command(Chat(client_id or new_client_id(), content, on_busy))

    async def stop(self, message_id: str) -> Taken:
        """End a reply; what was written so far stays, and its `complete` follows."""
        return await self._command(Stop(as_id(message_id)))

    async def regenerate(self, message_id: str, *, client_id: str | None = None) -> Taken:
        """Have the newest question answered again."""
        return await self._command(Regenerate(as_id(message_id), client_id or new_client_id()))

    async def edit(self, message_id: str, content: str, *, client_id: str | None = None) -> Taken:
        """Put another question in the place of the newest."""
        return await self._command(Edit(as_id(message_id), content, client_id or new_client_id()))

    async def rate(self, message_id: str, rating: Rating | None, comment: str | None = None) -> Taken:
        """Say what a reply was worth; None takes it back."""
        return await self._command(Feedback(as_id(message_id), rating, comment))

    async def type(self, *, is_on: bool) -> None:
        """Let the others see that somebody types; lost where there is no connection."""
        await self._write(encode_command(Typing(is_on)))

    async def _command(self, command: Command) -> Taken:
        frame, answer = self._commanding.add(command)
        self._has_room.set()
        if self._task is not None and self._task.done():
            answer.cancel()
            raise ConnectionLost("stream_ended", "The stream has ended.")
        await self._write(frame)
        try:
            return await asyncio.wait_for(answer, self._deadline_s)
        except TimeoutError:
            raise ConnectionLost("no_answer", "The server did not answer in time.", is_retryable=True) from None

    async def _write(self, frame: str) -> None:
        if self._socket is not None:
            # What a connection loses as it ends, the next one is told again.
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(frame)

    def _end(self) -> None:
        super()._end()
        self._commanding.fail(ConnectionLost("stream_ended", "The stream has ended."))

    async def _take(self, event: Event) -> None:
        self._commanding.take(event)
        await super()._take(event)

    def _must_read(self) -> bool:
        return bool(self._commanding)

    async def _connect(self) -> AsyncGenerator[Event]:
        url = await self._url(self._following.cursor)
        return self._talk(url, await self._following.credentials.headers())

    async def _talk(self, url: str, headers: Headers) -> AsyncGenerator[Event]:
        async with open_socket(url, headers) as socket:
            try:
                async with aclosing(socket_events(socket)) as events:
                    async for event in events:
                        yield event
                        if event.type == "ready":
                            await self._welcome(socket)
            finally:
                self._socket = None

    async def _welcome(self, socket: ClientConnection) -> None:
        self._socket = socket
        for frame in self._commanding.frames():
            await self._write(frame)
