"""uvicorn's WebSocket protocol with a budget for frames, and an end for peers that are gone or do not read."""

import asyncio
import time
from asyncio import BaseTransport, TimerHandle
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict, cast

from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from parley.core.serving import WRITE_BUFFER_BYTES, Bounds, ServingConfig

ABUSE, SILENT, OVER_A_LIMIT = 4400, 4408, 4429  # close codes, DESIGN 4.3
ABORT_S = 3.0  # whoever does not read its last words in this time is cut off
_TEXT = 0x81  # the first byte of a message that is one frame of text
_SHORT, _LONG = 125, 65_535  # lengths that stand in the second byte, and in the two behind it


def text_frame(text: bytes) -> bytes:
    """Return a message as a server sends it; such bytes are the same for every socket."""
    size = len(text)
    if size <= _SHORT:
        return bytes((_TEXT, size)) + text
    if size <= _LONG:
        return b"%c\x7e%b%b" % (_TEXT, size.to_bytes(2, "big"), text)
    return b"%c\x7f%b%b" % (_TEXT, size.to_bytes(8, "big"), text)


Stay = Callable[[], Awaitable[int]]


class Extension(TypedDict):
    """What a socket on this server can do beyond ASGI."""

    abort: Callable[[], None]
    buffered: Callable[[], int]
    """Bytes that wait for the peer to read."""
    write: Callable[[bytes], Awaitable[None] | None]
    """Send what `text_frame` made; returns what is left to wait for where the peer does not read."""
    send: Callable[[Any], Awaitable[None]]
    receive: Callable[[], Awaitable[Any]]
    stay: Stay | None
    """What an application sets before it returns, to go on without all that the request has passed through: frames
    and locals of a dozen functions, for the life of each socket. Leaving it closes the socket; it returns the code."""


class Allowance:
    """So many a second, told apart by looking at the clock only when they are spent."""

    def __init__(self, per_s: int) -> None:
        self._per_s = self._left = per_s
        self._since = time.monotonic()

    def take(self) -> bool:
        """Return whether there was one left."""
        self._left -= 1
        if self._left < 0:
            now = time.monotonic()
            if now - self._since < 1.0:
                return False
            self._since, self._left = now, self._per_s - 1
        return True


class BoundedServerProtocol(ServerProtocol):
    """Stops reading in the middle of a flood, before the frames that follow are parsed. Takes no compression."""

    def __init__(self, bounds: Bounds, max_bytes: int | None, logger: Any) -> None:
        super().__init__(max_size=max_bytes, logger=logger)
        self._frames, self._controls = Allowance(bounds.frames_per_s), Allowance(bounds.control_frames_per_s)
        self._per_message = bounds.frames_per_message
        self._fragments = 0

    def recv_frame(self, frame: Frame) -> None:
        """Count, then do as always."""
        if not self._frames.take():
            self._give_up(OVER_A_LIMIT, "too many frames")
        if frame.opcode is Opcode.CONT:
            self._fragments += 1
            if self._fragments >= self._per_message:
                self._give_up(ABUSE, "too many fragments")
        elif frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._fragments = 0
        elif not self._controls.take():
            self._give_up(OVER_A_LIMIT, "too many control frames")
        super().recv_frame(frame)

    def _give_up(self, code: int, reason: str) -> None:
        self.writes.clear()  # pongs that nobody waits for
        self.events.clear()
        self.fail(code, reason)
        raise ProtocolError(reason)  # ends the parser


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket. Applications find what it can do in `scope["extensions"]["parley"]`; see `Extension`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        bounds = config.bounds if isinstance(config, ServingConfig) else Bounds()
        self.conn = BoundedServerProtocol(bounds, config.ws_max_size, self.logger)
        self._abort_timer: TimerHandle | None = None
        self._heard_at = 0.0
        self._is_leaving = False

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        super().connection_lost(exc)
        self.conn.parser.close()  # a generator that waits for bytes, in a circle with what it parses for

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        super().data_received(data)
        if not self.handshake_initiated:  # a head that the library refuses is answered by nobody else
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:  # noqa: PLR2004  # switching protocols
            transport = self.transport
            extensions = cast("dict[str, Any]", self.scope["extensions"])
            extensions["parley"] = Extension(
                abort=transport.abort,
                buffered=transport.get_write_buffer_size,
                write=self.write_frames,
                send=self.send,
                receive=self.receive,
                stay=None,
            )

    def write_frames(self, frames: bytes) -> Awaitable[None] | None:
        """Send what `text_frame` made, past everything that would make it anew for each socket."""
        if not self.writable.is_set():
            return self._write_later(frames)
        if self.close_sent or self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(frames)
        return None

    async def _write_later(self, frames: bytes) -> None:
        await self.writable.wait()
        if (rest := self.write_frames(frames)) is not None:
            await rest

    async def run_asgi(self) -> None:
        """Serve; a refusal before the accept is an answer, for which uvicorn would log an error each time."""
        app = self.app

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            extension = scope["extensions"].get("parley")
            await app(scope, receive, send)
            if self.initial_response is not None:
                self.handshake_complete = True
            if extension is not None and (stay := extension["stay"]) is not None:
                extension["stay"] = None
                scope.clear()  # nobody reads it any more, and thousands of idle sockets would keep theirs
                await stay()

        self.app = serve
        try:
            await super().run_asgi()
        finally:
            # Both know this protocol: what goes in circles stays until the collector comes, which is rare.
            self.app = app
            cast("dict[str, Any]", self.scope).clear()

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is None:  # frames before we accepted, and bad ones
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006, "reason": None})
            self.transport.abort()
            return
        super().handle_parser_exception()
        self._abort_later()

    def keepalive_timeout(self) -> None:
        """Close on silence only: whoever sends frames is there, also without pongs."""
        self.pong_timer = None
        self.pending_ping_payload = None
        if self.close_sent or self.transport.is_closing():
            return
        if self._heard_at > self.ping_sent_at:
            self.schedule_ping()
            return
        self.conn.fail(SILENT, "silent too long")
        self.handle_parser_exception()

    def shutdown(self) -> None:
        """Say goodbye once, and wait for nobody who does not listen; who is still being let in is sent away within."""
        is_first, self._is_leaving = not self._is_leaving, True
        if is_first and self.handshake_initiated and not self.handshake_complete:
            return
        self.stop_keepalive()
        if self.handshake_complete and self.conn.state is not State.OPEN:
            self.close_sent = True  # in the middle of a goodbye: uvicorn would trip over a second one
        if not self.transport.is_closing():
            super().shutdown()
        self._abort_later()

    def _abort_later(self) -> None:
        if self._abort_timer is None:
            self._abort_timer = self.loop.call_later(ABORT_S, self.transport.abort)
