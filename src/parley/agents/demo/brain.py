"""The demo model's brain: a Chat Completions request in, the pieces of an answer out. Pure and deterministic.

It holds no question and no article: all it says about a subject it quotes from tool results in the request. It knows
grammar and a little courtesy, and says that it is the demo model. The pace is the server's.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from parley.agents.demo import intents
from parley.agents.demo.answers import answer, nearest
from parley.agents.demo.arguments import fill
from parley.agents.demo.passages import read_error, read_passages, read_sentence, split_sentences
from parley.agents.demo.pieces import Finish, Piece, Text, ToolCall, Usage, count_tokens, split
from parley.agents.demo.request import Found, Offer, Request, read_request
from parley.agents.words import words

__all__ = ["Finish", "Piece", "Text", "ToolCall", "Usage", "reply"]

QUERY_WORDS = 12  # more do not make a search better
OWN_WORDS = 2  # a question with more key words of its own stands for itself, whatever it refers to
LOOK_BACK = 6  # questions; nobody points back further without naming it again
REASON_CHARS = 200
SUMMARY_CHARS = 600
TITLE_WORDS = 6
PURPOSE_CHARS = 300  # where instructions without tools say what they are for

_SEARCH = {"search", "find", "lookup", "retrieve", "query", "knowledge"}
_PERSON = {"handoff", "handover", "human", "person", "escalate", "operator"}
_CLOCK = {"time", "clock", "date"}
_POINTERS = frozenset(words("it its that this these those them he she there same ones"))
_GOING_ON = ("and ", "what about ", "how about ", "also ", "or ", "but ", "then ", "what if ", "why", "so ")
_DURATION, _PRICE = ("how long", "how soon", "how fast", "how quickly"), ("how much", "how expensive")

_WHO = (
    "I am Parley's built-in demo model: a small program, not a language model and not a person. "
    "I only repeat what the tools I am offered find. Set OPENAI_API_KEY or OPENAI_BASE_URL to talk to a real model."
)
_NO_TOOLS = (
    "I am the demo model, and I was offered no tool to look this up with. "
    "I know nothing by myself, so I cannot answer it."
)
_SORRY = "I am sorry, I could not look this up just now. Please try again in a moment."
_CANNOT_CALL = "I am the demo model and cannot call a colleague here; I was offered no tool for it."
_CALLED = "I have asked a human colleague to take over. They can read everything written here."


def reply(request: Mapping[str, Any]) -> Iterator[Piece]:
    """Answer a request: texts or one tool call, then exactly one Finish. Raises for no request, whatever it holds."""
    read = read_request(request)
    said = _continue(read) if read.found else _begin(read)
    if isinstance(said, ToolCall):
        yield said
        tokens = count_tokens(said.name) + count_tokens(said.arguments_json)
        yield Finish("tool_calls", Usage(read.prompt_tokens, tokens))
        return
    yield from _tell(said, read)


def _tell(text: str, request: Request) -> Iterator[Piece]:
    for stop in request.stops:
        text = text.partition(stop)[0]
    tokens = 0
    for piece in split(text):
        cost = count_tokens(piece)
        if request.max_tokens is not None and tokens + cost > request.max_tokens:
            yield Finish("length", Usage(request.prompt_tokens, tokens))
            return
        tokens += cost
        yield Text(piece)
    yield Finish("stop", Usage(request.prompt_tokens, tokens))


def _begin(request: Request) -> str | ToolCall:
    """Answer a question nothing was looked up for yet: at once, or by calling a tool."""
    question = request.question
    if not request.offers and (task := _do_task(request)):
        return task
    if not words(question):
        return f"I did not get a question. {_abilities(request)}"
    if intents.asks_who(question):
        return f"{_WHO} {_abilities(request)}"
    person = _offer(request, _PERSON)
    if intents.wants_person(question, request.last_answer):
        return _call_person(request, person, "The user asks for a person")
    if intents.is_angry(question) and person is not None:
        return _call_person(request, person, "The user is upset")
    return _chat(request) or _look(request)


def _chat(request: Request) -> str | None:
    """Answer what needs no knowledge; None for everything else."""
    if intents.is_greeting(request.question):
        return f"Hello! I am Parley's built-in demo model. {_abilities(request)}"
    if intents.is_thanks(request.question):
        return "You are welcome."
    if intents.asks_abilities(request.question):
        return f"I am Parley's built-in demo model. {_abilities(request)}"
    return None


def _look(request: Request) -> str | ToolCall:
    zone, clock = intents.asks_time(request.question), _offer(request, _CLOCK)
    if zone is not None and clock is not None:
        return _call(request, clock, "", _zone_arguments(clock, zone))
    search = _offer(request, _SEARCH)
    if search is None:
        return _NO_TOOLS
    topic = _topic(request)
    if not topic:
        return f"I am not sure what you would like to know. {_abilities(request)}"
    return _call(request, search, " ".join(dict.fromkeys([*topic, *_hints(request)])), {})


def _continue(request: Request) -> str | ToolCall:
    """Go on after the tools have answered."""
    last = request.found[-1]
    kinds = {kind for found in request.found for kind in _kinds(found.name)}
    if _PERSON & kinds:
        handed = [found for found in request.found if _kinds(found.name) & _PERSON]
        return _CALLED if read_error(handed[-1].content) is None else "I am sorry, I could not reach a colleague."
    if _kinds(last.name) & _CLOCK:
        return _tell_time(request, last)
    passages = [passage for found in request.found for passage in read_passages(found.content)]
    if passages or _kinds(last.name) & _SEARCH:
        if not passages and read_error(last.content) is not None:
            return _SORRY
        told = answer(request.question, _topic(request), _hints(request), passages)
        return told or _not_found(request, nearest(passages))
    return read_sentence(last.content) if read_error(last.content) is None else _SORRY


def _tell_time(request: Request, last: Found) -> str | ToolCall:
    clock = _offer(request, _CLOCK)
    if read_error(last.content) is None:
        return read_sentence(last.content)
    # A zone nobody knows can be mended once.
    if clock is not None and len(request.found) == 1:
        return _call(request, clock, "", _zone_arguments(clock, "UTC"))
    return _SORRY


def _not_found(request: Request, titles: str) -> str:
    text = "I could not find this in what I can search."
    if titles:
        text += f" The nearest I have: {titles}."
    if _offer(request, _PERSON) is not None:
        text += f" If you would like a colleague to help, {intents.OFFER}."
    return text


def _call_person(request: Request, person: Offer | None, why: str) -> str | ToolCall:
    if person is None:
        search = _offer(request, _SEARCH)
        topic = _topic(request)
        return _call(request, search, " ".join(topic), {}) if search is not None and topic else _CANNOT_CALL
    asked = " ".join(request.question.split())[:REASON_CHARS]
    return _call(request, person, f"{why}: {asked}", {})


def _call(request: Request, offer: Offer, text: str, named: Mapping[str, Any]) -> ToolCall:
    arguments = _dump(fill(offer.parameters, text, named))
    # The same request gives the same id, the next call of a conversation another one.
    seed = f"{request.message_count}:{offer.name}:{arguments}".encode("utf-8", "surrogatepass")
    return ToolCall(f"call_{hashlib.blake2s(seed, digest_size=9).hexdigest()}", offer.name, arguments)


def _dump(arguments: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(arguments).decode()
    except TypeError:
        # A schema's default or choice may hold what cannot be sent.
        return "{}"


def _zone_arguments(clock: Offer, zone: str) -> dict[str, str]:
    """Name the zone where the schema has a property for one; without a zone only where it must be there."""
    properties, required = clock.parameters.get("properties"), clock.parameters.get("required")
    if not isinstance(properties, Mapping):
        return {}
    key = next((name for name in properties if isinstance(name, str) and "zone" in name.lower()), None)
    if key is None or not (zone or (isinstance(required, list) and key in required)):
        return {}
    return {key: zone or "UTC"}


def _kinds(name: str) -> set[str]:
    return set(words(name[:100].replace("_", " ").replace("-", " ")))


def _offer(request: Request, kinds: set[str]) -> Offer | None:
    return next((offer for offer in request.offers if _kinds(offer.name) & kinds), None)


def _topic(request: Request) -> list[str]:
    """Return the key words to look for; a question that only points back is completed by the ones before it."""
    own = intents.key_words(request.question)
    if not _is_dependent(request.question):
        return own[:QUERY_WORDS]
    before: list[str] = []
    for earlier in request.earlier[:LOOK_BACK]:
        before = intents.key_words(earlier) + before
        if before and not _is_dependent(earlier):
            break
    return list(dict.fromkeys([*before[:QUERY_WORDS], *own]))[: 2 * QUERY_WORDS]


def _hints(request: Request) -> list[str]:
    """Return the nouns a question implies: those behind how long and how much."""
    asked = request.question.lower()
    hints = {"time": _DURATION, "cost": _PRICE}
    return [noun for noun, phrases in hints.items() if any(phrase in asked for phrase in phrases)]


def _is_dependent(question: str) -> bool:
    own = intents.key_words(question)
    if not own:
        return True
    if len(own) > OWN_WORDS:
        return False
    return bool(set(words(question)) & _POINTERS) or question.lower().lstrip().startswith(_GOING_ON)


def _abilities(request: Request) -> str:
    can: list[str] = []
    if _offer(request, _SEARCH) is not None:
        can.append("look things up and quote what I find")
    if _offer(request, _CLOCK) is not None:
        can.append("tell the time")
    if _offer(request, _PERSON) is not None:
        can.append("call a human colleague")
    if not can:
        return "Without tools there is little I can do for you."
    return f"I can {_enumerate(can)}. What would you like to know?"


def _enumerate(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _do_task(request: Request) -> str | None:
    """Do the two things a chat asks a model for without tools: shorten a text, or name it; by quoting it."""
    purpose = (request.instructions or request.question)[:PURPOSE_CHARS].lower()
    material = request.question if request.instructions else "\n".join(request.question.splitlines()[1:])
    if "summar" in purpose:
        sentences = [it for line in material.splitlines() for it in split_sentences(line)[:1]]
        return " ".join(sentences)[:SUMMARY_CHARS].strip() or None
    if "title" in purpose:
        return " ".join(intents.key_words(material)[:TITLE_WORDS]).capitalize() or None
    return None
