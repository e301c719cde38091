"""Words of a text and their stems, for searching and comparing. Pure; knows English, and no subject."""

import re
from functools import lru_cache

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
WORD_CHARS = 40  # what is longer is no word
SHORTEST_STEM = 3

# What carries no meaning in a question: grammar, and what people say around their question.
STOPWORDS = frozenset(
    WORD.findall(
        """
    a an the this that these those it its itself they them their theirs he him his she her hers we us our ours you your
    yours i me my mine myself one ones some any anything something nothing everything someone
    somebody anyone anybody all both each few more most other
    such no nor not only own same so than too very just also there here then now
    and or but if because as until while of at by for with about against between into through during before after
    to from up down in out on off over under again further once
    am is are was were be been being have has had having do does did doing done can could will would shall should may
    might must ought get gets got getting
    what which who whom whose when where why how
    hi hello hey dear please thanks thank yes ok okay well um uh hmm
    want wants wanted like need needs needed know tell say says said ask asking question questions let lets go going
    wonder wondering looking look possible possibly able way ways work works thing things explain show
    give help helps helping exactly actually really
    much many long often quick quickly soon take takes taking took happen happens
    i'm i've i'd i'll you're you've you'll it's that's what's where's who's how's there's let's we're they're
    don't doesn't didn't can't cannot couldn't won't wouldn't isn't aren't wasn't weren't haven't hasn't shouldn't
    dont doesnt didnt cant wont isnt im ive whats wheres hows
    """
    )
)

_DOUBLED = re.compile(r"([b-df-hj-np-tv-z])\1\Z")
_VOWEL = re.compile("[aeiouy]")
# The longest that fits is cut, once; then a plural is gone already.
_SUFFIXES = ("abilities", "ability", "ations", "ation", "ments", "ment", "able", "ions", "ion", "ing", "ed", "ly")


@lru_cache(4096)  # the words of a few hundred articles; the same ones come again and again
def stem(word: str) -> str:
    """Cut what English hangs onto a word, lightly: `returned`, `returns` and `returning` are one.

    Does not try to find a word of the dictionary, only the same letters for the same word; irregular forms stay apart.
    """
    word = word.lower().replace("\u2019", "'").removesuffix("'s")
    if not word.isascii() or not word.isalpha():
        return word
    word = _singular(word)
    for suffix in _SUFFIXES:
        cut = word.removesuffix(suffix)
        if cut != word and len(cut) >= SHORTEST_STEM and _VOWEL.search(cut) and not cut.endswith("e"):
            word = cut
            break
    if len(word) > SHORTEST_STEM:
        word = word[:-1] if word[-1] in "ey" else word
    return _DOUBLED.sub(r"\1", word) if len(word) > SHORTEST_STEM else word


def words(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return [found.lower().replace("\u2019", "'") for found in WORD.findall(text) if len(found) <= WORD_CHARS]


def stems(text: str) -> list[str]:
    """Return the stems of all words that carry meaning, in their order."""
    return [stem(word) for word in words(text) if word not in STOPWORDS]


def _singular(word: str) -> str:
    if len(word) <= SHORTEST_STEM or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word.removesuffix("ies") + "y"
    return word.removesuffix("s")
