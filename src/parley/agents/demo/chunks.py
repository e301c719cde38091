"""The events of a Chat Completions stream as a provider writes them. Pure."""

import json
from dataclasses import dataclass
from typing import Any

DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    """Return one server-sent event; what JSON cannot say in UTF-8 is escaped."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


@dataclass(frozen=True, slots=True)
class Chunks:
    """Writes the chunks of one answer."""

    answer_id: str
    model: str
    created: int

    def role(self) -> bytes:
        return self.delta({"role": "assistant", "content": ""})

    def text(self, text: str) -> bytes:
        return self.delta({"content": text})

    def call(self, index: int, arguments: str, call_id: str | None = None, name: str | None = None) -> bytes:
        part: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
        if call_id is not None:
            part |= {"id": call_id, "type": "function"}
        if name is not None:
            part["function"]["name"] = name
        return self.delta({"tool_calls": [part]})

    def delta(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        return event(self.chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]))

    def finish(self, reason: str) -> bytes:
        return self.delta({}, reason)

    def usage(self, prompt_tokens: int, completion_tokens: int) -> bytes:
        return event({**self.chunk([]), "usage": usage(prompt_tokens, completion_tokens)})

    def chunk(self, choices: list[Any]) -> dict[str, Any]:
        return {
            "id": self.answer_id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return the count of tokens as the protocol has it."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
