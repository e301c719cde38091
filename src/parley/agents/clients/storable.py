"""Makes text of a model storable: no NUL, no lone surrogate. Pure.

PostgreSQL stores no NUL, and UTF-8 has no lone surrogates; JSON can carry both.
"""


class Storable:
    """The text of one stream: half a character at the end of a piece waits for its other half."""

    def __init__(self) -> None:
        self._half = ""

    def push(self, text: str) -> str:
        """Return what of the text so far can be told."""
        if not self._half and text.isascii():
            return text.replace("\0", "") if "\0" in text else text
        text = self._half + text
        self._half = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._half, text = text[-1], text[:-1]
        return storable(text)


def storable(text: str) -> str:
    """Return the text without NUL and lone surrogates; halves that stand side by side become one character."""
    text = text.replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    return text
