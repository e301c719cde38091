"""Reading a Chat Completions request that may hold anything: what was asked, said, offered and found. Pure.

Whatever does not have the shape of the protocol is passed over; nothing here raises.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parley.agents.demo.pieces import count_tokens

WINDOW_MESSAGES = 400  # the demo model's context window: what is older is neither read nor counted
PARTS = 32  # of one message's content, where it comes in parts
TEXT_CHARS = 8_000  # of one message, as far as it is understood
RESULT_CHARS = 40_000  # the same of one tool result
CALLS = 64  # of one message; and as many tools are looked at
MESSAGE_TOKENS = 4  # what a message costs beside its text, as with common tokenizers
TOOL_TOKENS = 60  # about what the schema of a small tool costs


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool the model may call."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What a call made for this question brought."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """What the demo model sees of a request."""

    model: str
    instructions: str
    question: str
    earlier: Sequence[str]
    """Questions before this one, newest first."""
    last_answer: str
    """Before this question."""
    found: Sequence[Found]
    offers: Sequence[Offer]
    max_tokens: int | None
    stops: Sequence[str]
    prompt_tokens: int
    message_count: int


def read_request(raw: Any) -> Request:
    """Read a request, whatever it is."""
    body = raw if isinstance(raw, Mapping) else {}
    listed = body.get("messages")
    messages = _mappings(listed[-WINDOW_MESSAGES:] if isinstance(listed, list | tuple) else None, WINDOW_MESSAGES)
    asked = max((at for at, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    before, after = messages[: max(asked, 0)], messages[asked + 1 :]
    offers = [] if body.get("tool_choice") == "none" else list(_read_offers(body.get("tools")))
    return Request(
        model=_text(body.get("model"))[:100] or "demo",
        instructions="\n".join(_texts(messages, "system", "developer"))[:TEXT_CHARS],
        question=_text(messages[asked].get("content")) if asked >= 0 else "",
        earlier=_texts(before, "user")[::-1],
        last_answer=(_texts(before, "assistant") or [""])[-1],
        found=list(_read_found(after)),
        offers=offers,
        max_tokens=_read_limit(body.get("max_completion_tokens")) or _read_limit(body.get("max_tokens")),
        stops=_read_stops(body.get("stop")),
        prompt_tokens=sum(map(_count, messages)) + TOOL_TOKENS * len(offers),
        message_count=len(listed) if isinstance(listed, list | tuple) else 0,
    )


def _mappings(value: Any, limit: int) -> list[Mapping[Any, Any]]:
    if not isinstance(value, list | tuple):
        return []
    return [item for item in value[:limit] if isinstance(item, Mapping)]


def _text(content: Any, limit: int = TEXT_CHARS) -> str:
    """Return the text of a content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content[:limit]
    parts = (part.get("text") for part in _mappings(content, PARTS))
    return "\n".join(part[:limit] for part in parts if isinstance(part, str))[:limit]


def _texts(messages: Sequence[Mapping[Any, Any]], *roles: str) -> list[str]:
    texts = (_text(message.get("content")) for message in messages if message.get("role") in roles)
    return [text for text in texts if text]


def _calls(message: Mapping[Any, Any]) -> Iterator[tuple[Any, str]]:
    """Return id and name of the calls in a message."""
    for call in _mappings(message.get("tool_calls"), CALLS):
        function = call.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(name, str):
            yield call.get("id"), name


def _read_found(messages: Sequence[Mapping[Any, Any]]) -> Iterator[Found]:
    names: dict[str, str] = {}
    for message in messages:
        names.update({call_id: name for call_id, name in _calls(message) if isinstance(call_id, str)})
        if message.get("role") == "tool":
            call_id, name = message.get("tool_call_id"), message.get("name")
            known = names.get(call_id, "") if isinstance(call_id, str) else ""
            yield Found(known or (name if isinstance(name, str) else ""), _text(message.get("content"), RESULT_CHARS))


def _read_offers(tools: Any) -> Iterator[Offer]:
    for tool in _mappings(tools, CALLS):
        function = tool.get("function")
        if isinstance(function, Mapping) and isinstance(function.get("name"), str) and function["name"]:
            parameters = function.get("parameters")
            yield Offer(function["name"], parameters if isinstance(parameters, Mapping) else {})


def _read_limit(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _read_stops(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [stop for stop in values[:4] if isinstance(stop, str) and stop]  # the protocol allows four


def _count(message: Mapping[Any, Any]) -> int:
    """Return the tokens of a message; lengths only, so that a long one costs no time."""
    content = message.get("content")
    texts: list[Any] = [content] if isinstance(content, str) else [it.get("text") for it in _mappings(content, PARTS)]
    for call in _mappings(message.get("tool_calls"), CALLS):
        function = call.get("function")
        texts.append(function.get("arguments") if isinstance(function, Mapping) else None)
    return MESSAGE_TOKENS + sum(count_tokens(text) for text in texts if isinstance(text, str))
