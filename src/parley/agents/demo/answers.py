"""Choosing the sentences that answer a question, by the words they share with it. Pure; adds nothing to its quotes."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from parley.agents.demo.passages import Passage
from parley.agents.words import stems

COVERED = 0.5  # of the weight of a question's words, for an answer; below that the passage is about something else
TITLED = 3  # times as much weight has a word the passage is named after: `return shoes` is answered by returns
SENTENCES = 3  # of the best passage: as many as somebody reads before they ask on
STRONG = 0.65  # of the best sentence's score, for a sentence to be quoted beside it
LEAD = 0.15  # passages begin with what matters
SHAPE = 0.6  # a question for a duration or a price is answered by a number of that kind
TITLES = 3  # of the nearest, where nothing answers
HINT = 0.5  # of a word's weight, for a word the question only implies
MOST_SENTENCES = 200  # looked at in all, so that a flood of results costs no more than milliseconds
_DURATION = re.compile(
    r"\b(\d+|a|an|one|two|three)\b[^.]{0,20}\b(minute|hour|day|week|month|year)|\bwithin\b|\d ?[ap]m\b",
    re.IGNORECASE,
)
_PRICE = re.compile(
    r"\d[^.]{0,12}(euro|eur|dollar|pound|percent|€|\$|£|%)|[€$£] ?\d|\bfree\b|\bno (cost|charge)\b",
    re.IGNORECASE,
)
_ASKS_DURATION = re.compile(
    r"\b(how long|how soon|how fast|how quick\w*|how many (days|weeks|hours)|when|what time)\b",
    re.IGNORECASE,
)
_ASKS_PRICE = re.compile(r"\b(how much|costs?|price|fees?|charges?|expensive|free)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Read:
    """A passage with the stems of its title and of each sentence."""

    passage: Passage
    rank: int
    title: frozenset[str]
    sentences: Sequence[frozenset[str]]

    @property
    def stems(self) -> frozenset[str]:
        return self.title.union(*self.sentences)


def answer(question: str, topic: Sequence[str], hints: Sequence[str], passages: Sequence[Passage]) -> str | None:
    """Return sentences of the passages that answer the question, with the passages' numbers; None if none does.

    `topic` are the key words, also those an earlier question lends to this one; `hints` only weigh.
    """
    wanted = list(dict.fromkeys(stem for word in topic for stem in stems(word)))
    read = _read(passages)
    weights = {stem: HINT * weight for stem, weight in _weigh(hints, read).items()} | _weigh(wanted, read)
    fitting = [it for it in read if _covers(it, wanted, weights)]
    if not fitting:
        return None
    best = max(fitting, key=lambda it: _score(it, weights))
    chosen = [_quote(best, _choose(question, best, weights, SENTENCES))]
    # A second one only for words the first says nothing about.
    lacking = set(wanted) - best.stems
    beside = [it for it in fitting if lacking & it.stems]
    if beside:
        second = max(beside, key=lambda it: _score(it, weights))
        chosen.append(_quote(second, _choose(question, second, weights, 1)))
    return "\n\n".join(chosen)


def nearest(passages: Sequence[Passage]) -> str:
    """Return the titles of what came nearest, with their numbers, as part of a sentence; empty without any."""
    titles = [f"“{passage.title}” [{passage.number}]" for passage in passages if passage.title][:TITLES]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}" if titles else ""


def _read(passages: Iterable[Passage]) -> list[Read]:
    read: list[Read] = []
    left = MOST_SENTENCES
    for rank, passage in enumerate(passages):
        sentences = [frozenset(stems(sentence)) for sentence in passage.sentences[:left]]
        left -= len(sentences)
        if sentences:
            read.append(Read(passage, rank, frozenset(stems(passage.title)), sentences))
    return read


def _weigh(wanted: Iterable[str], read: Sequence[Read]) -> dict[str, float]:
    """Return what each word counts: the rarer among the sentences, the more."""
    sentences = [sentence for it in read for sentence in it.sentences]
    held = Counter(stem for sentence in sentences for stem in sentence)
    return {stem: math.log(2 + len(sentences) / (1 + held[stem])) for stem in wanted}


def _covers(read: Read, wanted: Iterable[str], weights: dict[str, float]) -> bool:
    held = read.stems
    full = {stem: weights[stem] * (TITLED if stem in read.title else 1) for stem in wanted}
    return bool(full) and sum(weight for stem, weight in full.items() if stem in held) >= COVERED * sum(full.values())


def _score(read: Read, weights: dict[str, float]) -> float:
    held = read.stems
    shared = sum(weight * (2 if stem in read.title else stem in held) for stem, weight in weights.items())
    # The order of the results is the search's own judgement, made over all it knows.
    return shared * (1 + 0.5 / (1 + read.rank))


def _choose(question: str, read: Read, weights: dict[str, float], most: int) -> list[int]:
    """Return which sentences to quote: the best, those nearly as good, else the one behind it, in their order."""
    total = sum(weights.values())
    scores = []
    for at, held in enumerate(read.sentences):
        score = sum(weight for stem, weight in weights.items() if stem in held) / total + LEAD / (1 + at)
        if held & weights.keys():
            score += SHAPE * _has_shape(question, read.passage.sentences[at])
        scores.append(score)
    ranked = sorted(range(len(scores)), key=lambda at: (-scores[at], at))
    best = ranked[0]
    chosen = [at for at in ranked[:most] if scores[at] >= STRONG * scores[best]]
    if len(chosen) == 1 < most and best + 1 < len(scores):
        chosen.append(best + 1)
    return sorted(chosen)


def _has_shape(question: str, sentence: str) -> bool:
    return bool(
        (_ASKS_DURATION.search(question) and _DURATION.search(sentence))
        or (_ASKS_PRICE.search(question) and _PRICE.search(sentence))
    )


def _quote(read: Read, chosen: Iterable[int]) -> str:
    return f"{' '.join(read.passage.sentences[at] for at in chosen)} [{read.passage.number}]"
