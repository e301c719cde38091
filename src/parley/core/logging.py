"""Logs: JSON lines or a readable terminal, one writer thread, never a secret, never a wait on the loop.

A line is formatted by its caller and handed to a bounded queue; when the reader of our output stalls, lines are dropped
and counted, and the event loop does not notice.
"""

import atexit
import json
import logging
import queue
import re
import sys
import threading
from collections.abc import Mapping
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from parley.core.redaction import hide

QUEUE_LINES = 10_000
FLUSH_S = 1.0
# Without the values of local variables: among them are the passwords and keys of whoever asked.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class LineWriter:
    """A bounded queue of lines and the thread that writes them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_LINES)
        self.dropped = 0
        self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Hand over a line, or drop and count it; never waits."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what is there, for at most a second: a reader that stalls must not hold up the end."""
        try:
            self._lines.put(None, timeout=FLUSH_S)
        except queue.Full:
            return
        self._thread.join(FLUSH_S)

    def _write(self) -> None:
        line: str | None = ""
        while line is not None:
            line = self._lines.get()
            try:
                if line is not None:
                    self._stream.write(line + "\n")
                if line is None or self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                self.dropped += 1  # nobody reads any more: there is nowhere to say so


class _QueuedLogger:
    """What structlog calls last."""

    def __init__(self, writer: LineWriter) -> None:
        self._put = writer.put

    def msg(self, line: str) -> None:
        self._put(line)

    debug = info = warning = error = critical = msg


class _StandardLogs(logging.Handler):
    """Lines of libraries that use the standard library's logging, through the same door."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        extra: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        logger.log(min(record.levelno, logging.CRITICAL), record.getMessage(), logger=record.name, **extra)


def hide_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Mask what must not be in a log, by the name of the key and by the look of the text."""
    return {key: hide(key, value) for key, value in event.items()}


def configure_logging(*, level: str, pretty: bool, stream: TextIO | None = None) -> LineWriter:
    """Set up logging for this process; call it once, early."""
    writer = LineWriter(stream or sys.stdout)
    last: list[Processor] = (
        [structlog.processors.format_exc_info, hide_secrets, _printable, structlog.dev.ConsoleRenderer(colors=True)]
        if pretty
        else [_TRACEBACKS, hide_secrets, structlog.processors.JSONRenderer(_json)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _QueuedLogger(writer),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_StandardLogs()]
    root.setLevel(level.upper())
    # They say at length what our own lines say in one; what goes wrong still comes through.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "alembic", "httpx", "httpx2"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)
    # Warns that it cannot read a version number of bcrypt, and nothing else.
    logging.getLogger("passlib").setLevel(logging.ERROR)
    atexit.register(writer.close)
    return writer


def _json(event: Mapping[str, Any], **_: Any) -> str:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # numbers beyond 64 bits, lone surrogates: a line must come out all the same
        return json.dumps(event, default=str)


def _printable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Show control characters instead of sending them to somebody's terminal; tracebacks keep their lines."""
    return {
        key: value if key == "exception" or not isinstance(value, str) else _CONTROLS.sub(_escaped, value)
        for key, value in event.items()
    }


def _escaped(match: re.Match[str]) -> str:
    return repr(match[0])[1:-1]
