"""What a message is about, by its words: a greeting, a wish for a person, anger, the time. Pure; knows no subject."""

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from parley.agents.words import STOPWORDS, stem, words

OFFER = "say that you want a person"
"""Part of the sentence by which the demo model offers a colleague; a plain yes after it takes the offer up."""

_GREETINGS = frozenset(
    words("hi hello hey hiya howdy moin greetings good morning afternoon evening day there everyone all")
)
_YES = frozenset(words("yes yeah yep sure ok okay please do that would be great good fine go ahead"))
_THANKS = frozenset(words("thanks thank thx cheers bye goodbye ciao"))
_THANKS_AROUND = frozenset(
    words(
        "you very much so a lot many great perfect cool nice good ok okay that was is all helpful helped it for your "
        "the help this works worked wonderful and day have"
    )
)
_PEOPLE = frozenset(words("human humans person people agent operator representative colleague employee staff advisor"))
_SOMEBODY = {"someone", "somebody", "anyone", "anybody"}
_ASKING = frozenset(words("talk speak chat connect transfer reach want need get give put fetch bring call prefer"))
_BOTS = {"bot", "chatbot", "robot", "machine", "computer", "ai"}
_TALKING = frozenset(words("talk speak chat connect transfer"))
_NOT = frozenset(words("not no never don't dont without cannot can't doesn't"))
_ANGER = frozenset(
    words(
        "angry furious outraged outrageous ridiculous unacceptable disgusting useless pathetic scam scammers fraud "
        "awful horrible terrible infuriating incompetent idiots"
    )
)
_ANGER_PHRASES = re.compile(
    r"\b(worst|fed up|had enough|sick of|rip[- ]?off|waste of (my )?time|what a joke)\b|"
    r"\b(wtf|bullshit|damn|fuck\w*|shit\w*)\b",
    re.IGNORECASE,
)
_SELF = re.compile(
    r"\b(who|what) (exactly )?are you\b|\bwho am i (talking|speaking|chatting) (to|with)\b|\byour name\b|"
    r"\bare you (a |an |really |even )*(bot|chatbot|robot|human|person|ai|machine|computer|real|llm|"
    r"language model|gpt|chatgpt)\b|"
    r"\b(what|which) (ai |language )?model\b(?=.{0,40}\b(you|this)\b)|\bam i (talking|speaking|chatting) (to|with) a\b",
    re.IGNORECASE,
)
_ABILITIES = re.compile(
    r"\bwhat (can|could) you (do|help|know|tell)\b|\bwhat do you (do|know|offer)\s*[?!.]*\Z|"
    r"\bhow (can|could) you help\b|\bwhat are you (able|good)\b|"
    r"\A\s*help( me)?( please)?\s*[?!.]*\Z|\bwhat can i ask\b",
    re.IGNORECASE,
)
_CLOCK = frozenset(words("time now current currently clock date day today weekday hour o'clock right moment"))
_PLACE = re.compile(r"\bin ([A-Za-z][\w/+-]*(?: [A-Z][\w-]*)*)")
_ZONE = re.compile(r"\b[A-Z][A-Za-z_]+/[A-Z][A-Za-z_]+(?:/[A-Z][A-Za-z_]+)?\b")
# Where people often are; a model knows all of them, this one these.
_ZONES = {
    "london": "Europe/London", "berlin": "Europe/Berlin", "hamburg": "Europe/Berlin", "munich": "Europe/Berlin",
    "germany": "Europe/Berlin", "paris": "Europe/Paris", "france": "Europe/Paris", "madrid": "Europe/Madrid",
    "spain": "Europe/Madrid", "rome": "Europe/Rome", "italy": "Europe/Rome", "vienna": "Europe/Vienna",
    "zurich": "Europe/Zurich", "amsterdam": "Europe/Amsterdam", "stockholm": "Europe/Stockholm",
    "oslo": "Europe/Oslo", "copenhagen": "Europe/Copenhagen", "warsaw": "Europe/Warsaw", "kyiv": "Europe/Kyiv",
    "istanbul": "Europe/Istanbul", "dubai": "Asia/Dubai", "delhi": "Asia/Kolkata", "mumbai": "Asia/Kolkata",
    "india": "Asia/Kolkata", "singapore": "Asia/Singapore", "beijing": "Asia/Shanghai", "shanghai": "Asia/Shanghai",
    "china": "Asia/Shanghai", "tokyo": "Asia/Tokyo", "japan": "Asia/Tokyo", "seoul": "Asia/Seoul",
    "sydney": "Australia/Sydney", "nairobi": "Africa/Nairobi", "new york": "America/New_York",
    "chicago": "America/Chicago", "denver": "America/Denver", "los angeles": "America/Los_Angeles",
    "california": "America/Los_Angeles", "toronto": "America/Toronto", "sao paulo": "America/Sao_Paulo",
}  # fmt: skip


def is_greeting(text: str) -> bool:
    said = words(text)
    return bool(said) and set(said) <= _GREETINGS


def is_thanks(text: str) -> bool:
    said = set(words(text))
    return bool(said & _THANKS) and said <= _THANKS | _THANKS_AROUND


def asks_who(text: str) -> bool:
    return bool(_SELF.search(text))


def asks_abilities(text: str) -> bool:
    return bool(_ABILITIES.search(text))


def is_angry(text: str) -> bool:
    return bool(_ANGER & set(words(text))) or bool(_ANGER_PHRASES.search(text))


def wants_person(text: str, last_answer: str = "") -> bool:
    """Whether somebody asks for a person, or takes up the offer of one; asking how to reach one is another matter."""
    said = words(text)
    if OFFER in last_answer and said and set(said) <= _YES:
        return True
    if said and set(said) <= _PEOPLE | {"a", "real", "please", "the", "live", "now"} and set(said) & _PEOPLE:
        return True
    return any(
        _asks_for(said, at) if word in _PEOPLE | _SOMEBODY else _refuses(said, at)
        for at, word in enumerate(said)
        if word in _PEOPLE | _SOMEBODY | _BOTS
    )


def _asks_for(said: Sequence[str], at: int) -> bool:
    """Whether the person at this place is the one a verb close before it asks for."""
    asking = _verbs_before(said, at, _TALKING if said[at] in _SOMEBODY else _ASKING)
    if not asking or (said[at] not in _SOMEBODY and "for" in said[asking[-1] : at]):
        return False
    is_how = "how" in said[: asking[0]]
    return not is_how and not _is_refused(said, asking)


def _refuses(said: Sequence[str], at: int) -> bool:
    """Whether somebody does not want to talk to the machine named at this place."""
    talking = _verbs_before(said, at, _TALKING)
    return bool(talking) and _is_refused(said, talking)


def _verbs_before(said: Sequence[str], at: int, verbs: AbstractSet[str]) -> list[int]:
    return [place for place in range(max(0, at - 5), at) if said[place] in verbs]


def _is_refused(said: Sequence[str], verbs: Sequence[int]) -> bool:
    return any(word in _NOT for place in verbs for word in said[max(0, place - 3) : place])


def asks_time(text: str) -> str | None:
    """Return the time zone for a question about the time of day, empty where none is named; None for all others."""
    if not {"time", "date", "day", "clock", "o'clock"} & set(words(text)):
        return None
    zone = _ZONE.search(text)
    place = _PLACE.search(text)
    named = zone[0] if zone else place[1] if place else ""
    rest = {word for word in words(text.replace(named, " ") if named else text) if word not in STOPWORDS} - _CLOCK
    # What time something opens or takes is a question about that thing.
    if rest or not {"what", "what's", "whats", "tell", "which", "current", "now"} & set(words(text)):
        return None
    if zone:
        return zone[0]
    return _ZONES.get(named.lower(), "")


def key_words(text: str) -> list[str]:
    """Return the words that carry a question, each once, in their order."""
    seen: dict[str, str] = {}
    for word in words(text):
        if word not in STOPWORDS:
            seen.setdefault(stem(word), word)
    return list(seen.values())
