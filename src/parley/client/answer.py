"""Asking and watching the answer over one POST, which is sent again until the answer is whole."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self

from parley.client.comeback import Interrupted
from parley.client.events import Event
from parley.client.following import Following
from parley.client.state import Shown, State

Post = Callable[[Following], Awaitable[AsyncGenerator[Event]]]


class Answer:
    """Events up to the end of one reply: `async with`, then `async for`; the reply stands in `reply`."""

    def __init__(self, following: Following, post: Post) -> None:
        self._following = following
        self._post = post
        self._events = self._follow()

    @property
    def state(self) -> State:
        """After the event that was taken last."""
        return self._following.state

    @property
    def reply(self) -> Shown | None:
        """The reply as far as it is known; None where a person answers."""
        return next((message for message in reversed(self.state.shown()) if message.role == "assistant"), None)

    async def __aenter__(self) -> Self:
        """Begin; the question is sent with the first event that is asked for."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the connection; the reply is written to its end all the same."""
        await self._events.aclose()

    def __aiter__(self) -> AsyncGenerator[Event]:
        """Iterate over the events."""
        return self._events

    async def _follow(self) -> AsyncGenerator[Event]:
        while True:
            self._following.open()
            try:
                async with aclosing(await self._post(self._following)) as events:
                    async for event in events:
                        self._following.take(event)
                        yield event
            except Interrupted as ended:
                event = self._following.come_back(ended)
            else:
                return
            yield event
            await asyncio.sleep(event.data["in_s"])
