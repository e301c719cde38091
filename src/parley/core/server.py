"""uvicorn with an end in good order: drain, then requests, then resources. Decides nothing about what is drained."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from socket import socket
from types import FrameType
from typing import Any

import uvicorn

from parley.core.health import Readiness
from parley.core.http_protocol import HttpProtocol
from parley.core.neighbours import Neighbours
from parley.core.serving import ServingConfig

CANCELLED_S = 1.0  # what cancelled requests get for their `finally`
POLL_S = 0.02


class Server(uvicorn.Server):
    """Ends in three steps: takes nothing new and drains, lets requests finish, closes. A second SIGINT hurries."""

    def __init__(
        self, config: ServingConfig, *, when_ready: Readiness | None = None, neighbours: Neighbours | None = None
    ) -> None:
        """Take connections at once, or only when ready: a successor leaves them to whom it replaces until then."""
        super().__init__(config)
        self._neighbours = neighbours or Neighbours()
        self.on_drain: Callable[[], None] | None = None
        self._drain, self._graceful_s = config.drain, config.graceful_s
        self._when_ready = when_ready
        self._asked, self._hurried = asyncio.Event(), asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._deadline: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket] | None = None) -> None:
        """Serve until a signal, and what it asks for, is done."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)
        if self._ending is not None:
            await asyncio.wait({self._ending})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # as signals are handled
        """Begin the end in the loop; uvicorn would close every connection."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.end, sig)

    def end(self, sig: int = signal.SIGTERM) -> None:
        """Begin the end; on a second SIGINT, come to it."""
        if self._ending is None:
            self._asked.set()
            self._ending = asyncio.get_running_loop().create_task(self._end(), name="drain")
        elif sig == signal.SIGINT:
            self._hurried.set()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Open everything, and the doors last."""
        if self._when_ready is None or sockets is None:
            await super().startup(sockets)
            return
        await super().startup([])
        self.started = False
        await _until(self._asked, self._when_ready.wait())
        if not self._asked.is_set():
            loop = asyncio.get_running_loop()
            self.servers += [
                await loop.create_server(self._protocol, sock=listener, backlog=self.config.backlog)
                for listener in sockets
            ]
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """Look ten times a second whether others need help, which only they can give who are ready."""
        if self._drain.is_ready:
            await self._neighbours.take(self._protocol)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Let requests end before anything closes under them: uvicorn closes the moment it has cancelled them."""
        for connection in list(self.server_state.connections):
            connection.shutdown()
        loop, state = asyncio.get_running_loop(), self.server_state
        deadline = self._deadline or loop.time() + self._graceful_s
        # uvicorn has no event for it.
        while (state.tasks or state.connections) and loop.time() < deadline and not self._hurried.is_set():  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        late = set(state.tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CANCELLED_S)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn calls it
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def _end(self) -> None:
        self._deadline = asyncio.get_running_loop().time() + self._graceful_s
        # Only our copies of the listening sockets close: what waits in their queues is for whoever else holds them.
        for server in getattr(self, "servers", ()):
            server.close()
        self._neighbours.close()
        self._drain.begin()
        if self.on_drain is not None:
            self.on_drain()
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpProtocol):  # who keeps a WebSocket says goodbye to it
                connection.shutdown()
        await _until(self._hurried, self._drain.complete(self._graceful_s))
        self.should_exit = True


async def _until(event: asyncio.Event, work: Coroutine[Any, Any, object]) -> None:
    """Do this, but not longer than until the event."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(event.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
