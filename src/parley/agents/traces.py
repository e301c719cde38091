"""Spans of agents, by OpenTelemetry's names for generative AI: a reply, each call of a model, each call of a tool.

What people and models say is in them only where the settings ask for it, and never as it was.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from parley.agents.clients.attempts import AttemptReport
from parley.agents.clients.port import ModelRequest
from parley.agents.definition import AgentDefinition
from parley.agents.interface import Attempt, Call, Failed, Finished, Turn
from parley.core.redaction import redact_said
from parley.core.telemetry import Attributes, Mark, Telemetry

MAIN, MAIN_PROVIDER = "main", "openai"  # whose wire the main one speaks
SAID_CHARACTERS = 8192  # of each text; collectors cut or refuse longer ones
NO_ERROR = frozenset({"ok", "cancelled"})


class TurnTrace:
    """The spans of one reply: none."""

    is_on = False
    captures_content = False

    def answers(self, agent: AgentDefinition) -> None:
        """Note who answers."""

    def called(self, report: AttemptReport, booked: Attempt, request: ModelRequest, said: str) -> None:
        """Tell of a call of a model that has ended."""

    def ran(self, call: Call, outcome: str, seconds: float) -> None:
        """Tell of a call of a tool that has ended."""

    def came_to(self, ending: Finished | Failed) -> None:
        """Note how it ended; without it, it was left."""

    def end(self) -> None:
        """Tell of the reply."""


_NO_TRACE = TurnTrace()


class AgentTraces:
    """Makes the spans of every reply of a worker."""

    def __init__(self, telemetry: Telemetry, addresses: Mapping[str, str] | None = None) -> None:
        self._telemetry = telemetry
        self._places = {name: _place(url) for name, url in (addresses or {}).items()}

    def begin(self, turn: Turn) -> TurnTrace:
        """Begin those of a reply; they end with `TurnTrace.end`."""
        return _Traced(self._telemetry, self._places, turn) if self._telemetry.is_on else _NO_TRACE


class _Traced(TurnTrace):
    is_on = True

    def __init__(self, telemetry: Telemetry, places: Mapping[str, Attributes], turn: Turn) -> None:
        self._telemetry, self._places = telemetry, places
        self.captures_content = telemetry.captures_content
        self._conversation = {"gen_ai.conversation.id": str(turn.conversation_id)}
        self._mark: Mark = telemetry.begin(
            "invoke_agent", {"gen_ai.operation.name": "invoke_agent", **self._conversation}
        )
        self._booked: list[Attempt] = []
        self._ending: Finished | Failed | None = None

    def answers(self, agent: AgentDefinition) -> None:
        attributes = {"gen_ai.agent.name": agent.name, "gen_ai.agent.version": str(agent.version)}
        self._mark.tell(attributes, name=f"invoke_agent {agent.name}")

    def called(self, report: AttemptReport, booked: Attempt, request: ModelRequest, said: str) -> None:
        self._booked.append(booked)
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": MAIN_PROVIDER if report.provider == MAIN else report.provider,
            "gen_ai.request.model": report.model,
            "gen_ai.request.stream": True,
            "gen_ai.usage.input_tokens": booked.prompt_tokens,
            "gen_ai.usage.output_tokens": booked.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": booked.cached_tokens,
            **self._conversation,
            **self._places.get(report.provider, {}),
            **_optional(
                {
                    "gen_ai.request.max_tokens": request.max_tokens,
                    "gen_ai.request.temperature": request.temperature,
                    "gen_ai.response.id": report.answer_id,
                    "gen_ai.response.model": report.answered_by,
                    "gen_ai.response.finish_reasons": [report.finish_reason] if report.finish_reason else None,
                    "gen_ai.response.time_to_first_chunk": report.first_token_s,
                }
            ),
        }
        if self.captures_content:
            attributes["gen_ai.input.messages"] = _messages(request.messages)
            attributes["gen_ai.output.messages"] = _messages([{"role": "assistant", "content": said}])
        error = None if report.outcome in NO_ERROR else report.outcome
        self._telemetry.took(
            f"chat {report.model}", report.total_s, attributes, under=self._mark, is_client=True, error=error
        )

    def ran(self, call: Call, outcome: str, seconds: float) -> None:
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.name,
            "gen_ai.tool.call.id": call.call_id,
            "gen_ai.tool.type": "function",
            **self._conversation,
        }
        error = None if outcome in NO_ERROR else outcome
        self._telemetry.took(f"execute_tool {call.name}", seconds, attributes, under=self._mark, error=error)

    def came_to(self, ending: Finished | Failed) -> None:
        self._ending = ending

    def end(self) -> None:
        ending, booked = self._ending, self._booked
        reason = ending.finish_reason if isinstance(ending, Finished) else "error" if ending else "cancelled"
        attributes: dict[str, Any] = {
            "gen_ai.response.finish_reasons": [reason],
            "gen_ai.usage.input_tokens": sum(attempt.prompt_tokens for attempt in booked),
            "gen_ai.usage.output_tokens": sum(attempt.completion_tokens for attempt in booked),
        }
        if booked:
            attributes["gen_ai.request.model"] = booked[-1].model
        self._mark.tell(attributes)
        self._mark.end(ending.code if isinstance(ending, Failed) else None)


def _place(url: str) -> Attributes:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port}


def _optional(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None and value != ""}


def _messages(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return messages in the form of the conventions, redacted."""
    told = []
    for message in messages:
        text = redact_said(str(message.get("content") or "")[:SAID_CHARACTERS])
        told.append({"role": message.get("role", ""), "parts": [{"type": "text", "content": text}]})
    return json.dumps(told, ensure_ascii=False)
