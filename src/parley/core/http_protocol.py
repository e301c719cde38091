"""uvicorn's HTTP protocol with an end to waiting: for the head of a request, and for the last one of a drain."""

from asyncio import BaseTransport, TimerHandle
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from parley.core.drain import Drain
from parley.core.serving import WRITE_BUFFER_BYTES, Bounds, ServingConfig

FRESH_S = 0.25  # whoever was accepted this short a time ago has its request on the way
LINGER_S = 0.05  # what the kernel has already, and we have not read
TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection. Applications find `abort` and `buffered` in `scope["extensions"]["parley"]`."""

    bounds = Bounds()
    _drain: Drain | None = None
    _head_timer: TimerHandle | None = None
    _head_bytes = 0
    _is_in_head = False
    _is_in_body = False
    _is_leaving = False
    _serving: RequestResponseCycle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Wait for a request, but not for ever."""
        stream = cast("Any", transport)
        super().connection_made(stream)
        stream.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._extensions: dict[str, dict[object, object]] = {
            "parley": {"abort": stream.abort, "buffered": stream.get_write_buffer_size}
        }
        if isinstance(self.config, ServingConfig):
            self.bounds, self._drain = self.config.bounds, self.config.drain
        self._since = self.loop.time()
        self._head_timer = self.loop.call_later(self.bounds.head_timeout_s, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head_timer()
        super().connection_lost(exc)
        self._leave_serving()
        # They know this protocol: what goes in circles stays until the collector comes, which is rare (core.garbage).
        self.cycle = None  # type: ignore[assignment]
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        was_in_body = self._is_in_body
        super().data_received(data)
        if self._is_idle:
            # The rest of a body that was answered early is no head; it has the same time, not the same size.
            self._watch_head(0 if was_in_body else len(data))
        elif self._head_timer is not None:
            self._forget_head_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self.scope["extensions"] = self._extensions

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._is_in_head, self._is_in_body = False, True
        self._head_bytes = 0
        is_leaving = self._is_leaving or (self._drain is not None and self._drain.is_draining)
        if is_leaving and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_in_body = False

    def handle_websocket_upgrade(self) -> None:
        """Hand the transport over, and with it what the timer was for."""
        self._forget_head_timer()
        self._leave_serving()
        super().handle_websocket_upgrade()
        self.parser = self.cycle = None  # type: ignore[assignment]  # both know this protocol

    def shutdown(self) -> None:
        """Answer what is under way or already on the wire, then close. uvicorn would reset what it has not read."""
        self._is_leaving = True
        if not self._is_idle:
            self.cycle.keep_alive = False
            return
        patience_s = max(LINGER_S, self._since + FRESH_S - self.loop.time())
        self.loop.call_later(patience_s, self._close_if_idle)

    @property
    def _is_idle(self) -> bool:
        # uvicorn's types do not know that there is no cycle before the first request.
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)  # type: ignore[redundant-expr]

    @property
    def _is_given_away(self) -> bool:
        # To the end of the connection, or to the protocol of a WebSocket.
        return self.transport.is_closing() or self.transport.get_protocol() is not self

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._serving = cycle
        super()._start_asgi_task(cycle, app)

    def _leave_serving(self) -> None:
        """Tell what is served that nobody listens: uvicorn knows the newest request alone, which may wait behind it."""
        cycle, self._serving = self._serving, None
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def _watch_head(self, received: int) -> None:
        """Bound a head that is still arriving; also bytes after an answer, which stop uvicorn's own timer."""
        if self._is_given_away:
            return
        self._head_bytes += received
        if self._head_bytes > self.bounds.head_bytes:
            self._refuse(TOO_LARGE)
        elif self._head_timer is None and self.timeout_keep_alive_task is None:
            self._since = self.loop.time()
            self._head_timer = self.loop.call_later(self.bounds.head_timeout_s, self._head_late)

    def _head_late(self) -> None:
        self._head_timer = None
        if self._is_idle:
            self._refuse(TOO_LATE if self._is_in_head else b"")

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    def _close_if_idle(self) -> None:
        if self._is_idle and not self._is_given_away:
            self.transport.close()

    def _forget_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
