"""Reading what a tool gave back into passages with titles and numbers, whatever its form. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

MOST_PASSAGES = 20
PASSAGE_CHARS = 6_000
MOST_SENTENCES = 40  # of one passage
HIGHEST_NUMBER = 999
_TITLES = ("title", "name", "heading", "question")
_TEXTS = ("text", "content", "excerpt", "snippet", "body", "answer", "summary", "description")
_NUMBERS = ("number", "citation", "index", "source")
_LISTS = ("results", "passages", "documents", "articles", "items", "hits", "data", "matches")
_END = re.compile(r"(?<=[.!?])[\"')\]”\u2019]?\s+(?=[^a-z\s])")
_MARKUP = re.compile(
    r"^\s{0,8}(?:[-*+•>]|\d{1,2}[.)])\s+|^\s{0,8}#{1,6}\s.*$|[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}(?=\W|$)",
    re.MULTILINE,
)
_BLANKS = re.compile(r"[ \t\r\f\v]{1,}")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a tool's result."""

    number: int
    title: str
    sentences: Sequence[str]


def read_passages(content: str) -> list[Passage]:
    """Return the passages of a result; of one that is no list of them, none."""
    rows = _find_rows(_decode(content))
    if rows is None:
        return []
    read = [_read_row(row, at) for at, row in enumerate(rows[:MOST_PASSAGES], start=1)]
    return [passage for passage in read if passage is not None]


def read_error(content: str) -> str | None:
    """Return what a result says went wrong; None where it says no such thing."""
    value = _decode(content)
    if isinstance(value, dict) and "error" in value:
        return str(value["error"])[:300] if isinstance(value["error"], str) else "unknown"
    return None


def read_sentence(content: str) -> str:
    """Return a result in a sentence or two, for tools that say what they have to say themselves."""
    value = _decode(content)
    if isinstance(value, dict):
        texts = [value[key] for key in _TEXTS if isinstance(value.get(key), str)]
        pairs = (f"{key}: {item}" for key, item in value.items() if isinstance(item, str | int | float))
        content = texts[0] if texts else "; ".join(pairs)
    elif isinstance(value, str):
        content = value
    return " ".join(content[:600].split())


def split_sentences(text: str) -> list[str]:
    """Cut a text into sentences, without marks of markdown and without headings."""
    sentences: list[str] = []
    for line in _MARKUP.sub("", text[:PASSAGE_CHARS]).splitlines():
        plain = _BLANKS.sub(" ", line).strip()
        sentences += [sentence.strip() for sentence in _END.split(plain) if any(map(str.isalpha, sentence))]
    return sentences[:MOST_SENTENCES]


def _decode(content: str) -> Any:
    if not content[:20].lstrip().startswith(("{", "[", '"')):
        return None
    try:
        return orjson.loads(content)
    except ValueError:
        return None


def _find_rows(value: Any) -> list[Any] | None:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return next((value[key] for key in _LISTS if isinstance(value.get(key), list)), None)
    return None


def _read_row(row: Any, position: int) -> Passage | None:
    if isinstance(row, str):
        return Passage(position, "", split_sentences(row)) if row.strip() else None
    if not isinstance(row, Mapping):
        return None
    title, text = _first(row, _TITLES), _first(row, _TEXTS)
    if not title and not text:
        return None
    numbers = (row.get(key) for key in _NUMBERS)
    told = (it for it in numbers if isinstance(it, int) and not isinstance(it, bool) and 0 < it <= HIGHEST_NUMBER)
    return Passage(next(told, position), " ".join(title[:200].split()), split_sentences(text))


def _first(row: Mapping[Any, Any], keys: Sequence[str]) -> str:
    return next((row[key] for key in keys if isinstance(row.get(key), str)), "")
