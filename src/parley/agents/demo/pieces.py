"""What the demo model says, piece by piece, and its count of tokens. Pure."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

CHARS_PER_TOKEN = 4  # the usual rule of thumb for English; enough to have usage and limits to work with
PIECE_CHARS = 24  # a longer run without a space is told in several pieces
_PIECE = re.compile(rf"\s{{0,{PIECE_CHARS}}}\S{{1,{PIECE_CHARS}}}|\s{{1,{PIECE_CHARS}}}")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request and its answer, by our own estimate."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Text:
    """The answer grows by about a word."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool is called, in one piece; the server may cut the arguments as it likes."""

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer is complete; always the last piece, and the only one of its kind."""

    reason: Literal["stop", "length", "tool_calls"]
    usage: Usage


Piece = Text | ToolCall | Finish


def count_tokens(text: str) -> int:
    """Return the estimate: a token for every four characters begun."""
    return math.ceil(len(text) / CHARS_PER_TOKEN)


def split(text: str) -> Iterator[str]:
    """Cut a text into pieces of about a word, each with the space before it; joined they are the text."""
    return (found[0] for found in _PIECE.finditer(text))
