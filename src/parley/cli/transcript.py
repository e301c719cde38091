"""How the events of a reply look on a terminal, or as lines of JSON. Reads no event's meaning beyond its looks."""

import json
import re
import sys
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from parley.agents.interface import (
    Event,
    Finished,
    Restarted,
    Source,
    SourcesFound,
    Started,
    TextGrew,
    ToolCalled,
    ToolFinished,
)

# What a model or a document says must not drive the terminal: no escape sequences, no overwriting.
_CONTROLS = {code: None for code in [*range(0x20), *range(0x7F, 0xA0)] if chr(code) not in "\n\t"}
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
_ENDS = {
    "length": "The answer was cut: it became too long.",
    "content_filter": "The answer was cut by the provider's filter.",
    "handoff": "A human colleague takes over.",
    "step_limit": "The agent used up its steps.",
    "budget_exceeded": "The budget is used up.",
}


class Lines:
    """One line of JSON for each event."""

    def show(self, event: Event) -> None:
        """Print an event."""
        fields: dict[str, Any] = msgspec.to_builtins(event)
        print(json.dumps({"event": _WORD.sub("_", type(event).__name__).lower(), **fields}), flush=True)

    def end(self) -> None:
        """Print nothing more."""


class Transcript:
    """Text as it grows, a line for each tool, and the sources below."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._is_line_open = False
        self._sources: list[Source] = []

    def show(self, event: Event) -> None:
        """Print what a person wants to see of an event."""
        match event:
            case TextGrew(text):
                text = text.translate(_CONTROLS)
                self._console.print(Text(text), end="")
                sys.stdout.flush()
                self._is_line_open = not text.endswith("\n")
            case Started(agent, version, model):
                self._note(f"{agent} v{version} on {model}" if model else f"{agent} v{version}")
            case ToolCalled(_, name, label, arguments):
                given = f" {json.dumps(dict(arguments), ensure_ascii=False)}" if arguments else ""
                self._note(f"{label}: {name}{given}", "cyan")
            case ToolFinished(_, is_ok, summary):
                self._note(f"  {summary or ('done' if is_ok else 'failed')}", "cyan" if is_ok else "yellow")
            case SourcesFound(sources):
                self._sources += sources
            case Restarted(code):
                self._sources = []
                self._note(f"Begun anew: {code}", "yellow")
            case Finished(reason) if reason in _ENDS:
                self._note(_ENDS[reason], "yellow")
            case _:
                pass

    def end(self) -> None:
        """Print where the answer comes from."""
        self._close_line()
        for source in self._sources:
            self._note(f"[{source.number}] {source.title}{f'  {source.url}' if source.url else ''}", "blue")

    def _note(self, line: str, style: str = "dim") -> None:
        self._close_line()
        self._console.print(Text(line.translate(_CONTROLS).replace("\n", " "), style))

    def _close_line(self) -> None:
        if self._is_line_open:
            self._console.print()
        self._is_line_open = False
