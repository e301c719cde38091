"""Numbers of sources: one per source and reply, whatever tool found it and how often. Pure."""

from collections.abc import Sequence

import orjson

from parley.agents.interface import Result, Source
from parley.agents.tools.outcome import Ran

EXCERPT_CHARS = 240  # what a card under an answer shows


class Citations:
    """The sources of one reply. After a takeover `recall` the stored results first, in their order."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def result(self, ran: Ran) -> tuple[Result, Sequence[Source]]:
        """Return what the model reads, and the sources that were not known before."""
        if ran.sources is None:
            return Result(ran.call_id, ran.is_ok, ran.content, ran.summary, ran.is_handoff), []
        rows, new = [], []
        for passage in ran.sources:
            number, is_new = self._number(passage.id)
            rows.append(
                {
                    "number": number,
                    "id": passage.id,
                    "title": passage.title,
                    "url": passage.url,
                    "text": passage.text,
                }
            )
            if is_new:
                new.append(Source(number, passage.id, passage.title, passage.url, _excerpt(passage.text)))
        content = orjson.dumps({"results": rows}).decode()
        return Result(ran.call_id, ran.is_ok, content, ran.summary, ran.is_handoff), new

    def recall(self, result: Result) -> Sequence[Source]:
        """Return the sources of a stored result that were not known before; a result without any has none."""
        try:
            rows = orjson.loads(result.content)["results"]
            found = [Source(row["number"], row["id"], row["title"], row["url"], _excerpt(row["text"])) for row in rows]
        except (ValueError, TypeError, KeyError, IndexError):
            return []
        new = [source for source in found if source.id not in self._numbers]
        self._numbers.update({source.id: source.number for source in new})
        return new

    def _number(self, source_id: str) -> tuple[int, bool]:
        known = self._numbers.get(source_id)
        if known is not None:
            return known, False
        self._numbers[source_id] = number = max(self._numbers.values(), default=0) + 1
        return number, True


def _excerpt(text: str) -> str:
    text = " ".join(text[: 2 * EXCERPT_CHARS].split())
    if len(text) <= EXCERPT_CHARS:
        return text
    return text[:EXCERPT_CHARS].rsplit(" ", 1)[0] + " …"
