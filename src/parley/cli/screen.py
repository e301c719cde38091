"""How a conversation looks on a terminal: what is new of its state after each event. Opens and asks nothing."""

import sys

from rich.console import Console
from rich.text import Text

from parley.client.events import RECONNECTING, Event
from parley.client.state import Shown, State

# What a model or another person says must not drive the terminal: no escape sequences, no overwriting.
_CONTROLS = {code: None for code in [*range(0x20), *range(0x7F, 0xA0)] if chr(code) not in "\n\t"}
_ENDS = {"stopped": "(stopped)", "failed": "The answer failed; /regenerate tries again."}
SHOWN_FIRST = 10  # messages of a conversation that is opened again


class Screen:
    """Prints what was not printed yet, whatever way it came."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._is_line_open = False
        self._is_away = False
        self._is_begun = False
        self._printed: dict[str, str] = {}
        self._steps: dict[str, int] = {}
        self._ended: set[str] = set()

    def show(self, event: Event, state: State) -> None:
        """Print what an event changed."""
        match event.type:
            case _ if event.type == RECONNECTING:
                self._reconnecting(event)
            case "ready" if self._is_away:
                self._is_away = False
                self.note("connected again", "green")
            case "restart":
                self._printed.pop(event.data["message_id"], None)
                self._steps.pop(event.data["message_id"], None)
                self.note("begun anew", "yellow")
            case "draining":
                self.note("this server goes away; another one takes over")
        self._catch_up(state)

    def note(self, line: str, style: str = "dim") -> None:
        """Print a line of our own."""
        self._close_line()
        self._console.print(Text(line.translate(_CONTROLS).replace("\n", " "), style))

    def _reconnecting(self, event: Event) -> None:
        self._is_away = True
        self.note(f"connection lost ({event.data['reason']}), trying again in {event.data['in_s']:.1f} s", "yellow")

    def _catch_up(self, state: State) -> None:
        messages = state.shown()
        if not self._is_begun and messages:
            self._is_begun = True
            for message in messages[:-SHOWN_FIRST]:
                self._printed[message.id] = message.content
                self._ended.add(message.id)
        me = (state.user or {}).get("id")
        for message in messages:
            if message.id in self._ended:
                continue
            if message.role == "assistant":
                self._reply(message)
            else:
                self._said(message, is_own=(message.row.get("author") or {}).get("id") == me)

    def _said(self, message: Shown, *, is_own: bool) -> None:
        self._ended.add(message.id)
        author = message.row.get("author") or {}
        name = "you" if is_own else author.get("name") or message.role
        self.note(f"{name}: {message.content}", "bold" if is_own else "magenta")

    def _reply(self, message: Shown) -> None:
        for step in message.steps[self._steps.get(message.id, 0) :]:
            self.note(f"{step['label'] or step['name']} ...", "cyan")
        self._steps[message.id] = len(message.steps)
        printed = self._printed.get(message.id, "")
        if not message.content.startswith(printed):
            self.note("(read again)")
            printed = ""
        self._text(message.content[len(printed) :])
        self._printed[message.id] = message.content
        if not message.is_live:
            self._end(message)

    def _end(self, message: Shown) -> None:
        self._ended.add(message.id)
        self._close_line()
        if message.status in _ENDS:
            self.note(_ENDS[message.status], "yellow")
        for source in message.sources:
            self.note(
                f"[{source['number']}] {source['title']}{f'  {url}' if (url := source.get('url')) else ''}", "blue"
            )

    def _text(self, text: str) -> None:
        text = text.translate(_CONTROLS)
        if text:
            self._console.print(Text(text), end="")
            sys.stdout.flush()
            self._is_line_open = not text.endswith("\n")

    def _close_line(self) -> None:
        if self._is_line_open:
            self._console.print()
        self._is_line_open = False
