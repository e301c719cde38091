"""Searching help articles: the seam a knowledge package fills, and the sample articles that stand behind it until then.

The ranking is BM25 over weighted fields, with stems and without synonyms: an article is found by the words it holds.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

from parley.agents.words import stems

K1, B = 1.2, 0.75  # the usual values: how soon repetition stops counting, how much length counts against
TITLE_WEIGHT, TAG_WEIGHT = 4, 3  # a word of a title says more about an article than one of its text
QUERY_CHARS, QUERY_STEMS = 2_000, 64  # a query is a question, not a document
FENCE = "---"


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of what is known, as it was found; the score compares passages of one search only."""

    id: str
    title: str
    text: str
    url: str | None = None
    score: float = 0.0


class KnowledgeBase(Protocol):
    """Where answers are looked up."""

    async def search(self, query: str, limit: int) -> Sequence[Passage]:
        """Return at most `limit` passages, best first, and none rather than one that shares nothing with the query."""
        ...


@dataclass(frozen=True, slots=True)
class Article:
    """A help article."""

    id: str
    title: str
    url: str
    tags: Sequence[str]
    text: str


class SampleKnowledge:
    """Articles in memory, indexed once; searching takes well under a millisecond and waits for nothing."""

    def __init__(self, articles: Iterable[Article]) -> None:
        self.articles = tuple(articles)
        self._counts = [_count(article) for article in self.articles]
        self._lengths = [counts.total() for counts in self._counts]
        self._mean_length = sum(self._lengths) / max(1, len(self._lengths))
        holders = Counter(term for counts in self._counts for term in counts)
        self._rarity = {
            term: math.log(1 + (len(self.articles) - held + 0.5) / (held + 0.5)) for term, held in holders.items()
        }

    async def search(self, query: str, limit: int) -> Sequence[Passage]:
        """Return the best articles; see KnowledgeBase."""
        return self.rank(query, limit)

    def rank(self, query: str, limit: int) -> list[Passage]:
        """Return the articles that share a word with the query, best first, ties by id."""
        terms = set(stems(query[:QUERY_CHARS])[:QUERY_STEMS])
        scored = [(self._score(index, terms), article) for index, article in enumerate(self.articles)]
        found = sorted(((score, article) for score, article in scored if score > 0), key=lambda it: (-it[0], it[1].id))
        return [_passage(article, score) for score, article in found[: max(0, limit)]]

    def _score(self, index: int, terms: Iterable[str]) -> float:
        counts, total = self._counts[index], 0.0
        damping = K1 * (1 - B + B * self._lengths[index] / self._mean_length)
        # Sorted, for the sum of floats depends on the order, and the order of a set on the process.
        for term in sorted(terms):
            if times := counts.get(term, 0):
                total += self._rarity[term] * times * (K1 + 1) / (times + damping)
        return total


def load_samples() -> SampleKnowledge:
    """Read the shipped articles. Blocks: call it once, off the loop."""
    folder = resources.files("parley.agents") / "samples"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".md")), key=lambda file: file.name)
    return SampleKnowledge(parse_article(file.read_text("utf-8")) for file in files)


def parse_article(text: str) -> Article:
    """Read an article: lines `key: value` between two fences, then its text."""
    head, separator, body = text.removeprefix(FENCE + "\n").partition(f"\n{FENCE}\n")
    if not text.startswith(FENCE + "\n") or not separator:
        raise ValueError("an article begins with its front matter between two lines of ---")
    fields: Mapping[str, str] = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in head.splitlines())
    }
    missing = {"id", "title", "url", "tags"} - set(fields)
    if missing:
        raise ValueError(f"an article's front matter lacks {', '.join(sorted(missing))}")
    tags = [tag.strip() for tag in fields["tags"].split(",") if tag.strip()]
    return Article(fields["id"], fields["title"], fields["url"], tags, body.strip())


def _count(article: Article) -> Counter[str]:
    counts = Counter(stems(article.text))
    for field, weight in ((article.title, TITLE_WEIGHT), (" ".join(article.tags), TAG_WEIGHT)):
        for term in stems(field):
            counts[term] += weight
    return counts


def _passage(article: Article, score: float) -> Passage:
    return Passage(article.id, article.title, article.text, article.url, round(score, 4))
