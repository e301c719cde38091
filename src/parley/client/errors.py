"""What a client's caller is told went wrong.

ParleyError
├── Refused           the server does not let us in, and coming back would not help
├── CommandRefused    one command failed; the connection goes on
├── ConnectionLost    we tried as long as we were asked to
└── ContentMismatch   a reply's text is not what its end says, twice
"""


class ParleyError(Exception):
    """Something a caller may want to handle; `code` is stable, the message is safe to show."""

    def __init__(self, code: str, message: str, *, is_retryable: bool = False) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.is_retryable = is_retryable


class Refused(ParleyError):
    """The server does not let us in, and coming back would not help."""


class CommandRefused(ParleyError):
    """One command failed; the connection goes on."""


class ConnectionLost(ParleyError):
    """We tried as long as we were asked to."""


class ContentMismatch(ParleyError):
    """A reply's text is not what its end says."""

    def __init__(self, message_id: str) -> None:
        super().__init__("content_mismatch", "A reply did not arrive whole.", is_retryable=True)
        self.message_id = message_id
