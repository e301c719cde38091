"""Cuts a stream of server-sent events into the data of its events, in bounded memory. Pure; knows nothing of models."""

BOM = b"\xef\xbb\xbf"
FIELD = b"data:"


class EventCutter:
    """Takes bytes as they come; however they were cut, the same events come out."""

    def __init__(self, max_line_bytes: int) -> None:
        self.is_too_long = False
        """A line, or an event of many lines, is longer than allowed: nothing more comes out."""
        self._max_line_bytes = max_line_bytes
        self._rest = bytearray()
        self._data: bytes | None = None
        self._holds_return = False
        self._is_first_line = True

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that are complete now."""
        if self._holds_return or b"\r" in data:
            data = self._with_plain_newlines(data)
        lines = data.split(b"\n")
        tail = lines.pop()
        if not lines:
            # In place: a long line that comes byte by byte must not be copied each time.
            self._rest += tail
            self._check(len(self._rest))
            return []
        if self._rest:
            lines[0] = bytes(self._rest) + lines[0]
        self._rest = bytearray(tail)
        if self._is_first_line:
            self._is_first_line = False
            lines[0] = lines[0].removeprefix(BOM)
        events = self._take(lines)
        self._check(len(self._rest))
        return events

    def _take(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        for line in lines:
            if self.is_too_long:
                break
            if not line:
                if self._data is not None:
                    events.append(self._data)
                    self._data = None
            elif self._check(len(line)) and line.startswith(FIELD):
                piece = line[5:]
                self._data = piece if self._data is None else self._data + b"\n" + piece
                self._check(len(self._data))
        return events

    def _check(self, length: int) -> bool:
        if length > self._max_line_bytes:
            self.is_too_long = True
            self._rest.clear()
            self._data = None
        return not self.is_too_long

    def _with_plain_newlines(self, data: bytes) -> bytes:
        """A line may end in LF, CR LF or CR; a CR at the end of a read may be half of CR LF."""
        if self._holds_return:
            data = b"\r" + data
        self._holds_return = data.endswith(b"\r")
        if self._holds_return:
            data = data[:-1]
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
