"""What attempts really wrote, kept apart from the code that is tried."""

from parley.chat.tape import Part


class Truth:
    """What an attempt wrote, kept apart from the code that is tried."""

    def __init__(self) -> None:
        self.text = ""
        self.characters = [0]
        """Of the text, up to each position."""

    @property
    def end(self) -> int:
        """How many positions it has."""
        return len(self.characters) - 1

    def grow(self, part: Part) -> None:
        """Take a part: a position for each character, and one for any other event."""
        count = len(self.text)
        if isinstance(part, str):
            self.text += part
            self.characters.extend(range(count + 1, len(self.text) + 1))
        else:
            self.characters.append(count)


EMPTY = Truth()
