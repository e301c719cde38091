"""A stream of server-sent events: bytes in, events out, however they were cut. Pure, and bounded."""

from dataclasses import dataclass

MAX_EVENT_BYTES = 32 * 1024 * 1024  # a reset of 50 of the longest messages, with room
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event: its data, and the id that came with it or with an earlier one."""

    data: str
    id: str | None


class SseTooLarge(ValueError):
    """An event is longer than anything the server sends."""


class SseParser:
    """Takes bytes as they come, by the rules of the HTML standard."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.retry_ms: int | None = None
        self._max_event_bytes = max_event_bytes
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._id: str | None = None
        self._holds_return = False
        self._is_first_line = True

    def feed(self, data: bytes) -> list[SseEvent]:
        """Return the events that are complete now; raises SseTooLarge."""
        if self._holds_return or b"\r" in data:
            data = self._with_plain_newlines(data)
        *lines, tail = data.split(b"\n")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        # In place: a long line that comes byte by byte must not be copied each time.
        self._rest += tail
        events = [event for line in lines if (event := self._take(line)) is not None]
        if len(self._rest) + self._data_bytes > self._max_event_bytes:
            raise SseTooLarge
        return events

    def _take(self, line: bytes) -> SseEvent | None:
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace") or None
        elif name == b"retry" and value.isdigit():
            self.retry_ms = int(value[:9])
        return None

    def _dispatch(self) -> SseEvent | None:
        data = b"\n".join(self._data)
        self._data.clear()
        self._data_bytes = 0
        return SseEvent(data.decode(errors="replace"), self._id) if data else None

    def _with_plain_newlines(self, data: bytes) -> bytes:
        """A line may end in LF, CR LF or CR; a CR at the end of a read may be half of CR LF."""
        if self._holds_return:
            data = b"\r" + data
        self._holds_return = data.endswith(b"\r")
        if self._holds_return:
            data = data[:-1]
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
