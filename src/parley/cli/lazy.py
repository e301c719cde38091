"""How `parley` finds its commands: by name in a table, and a command's module is imported when that command runs.

`parley --help` shows the table and `parley serve` stays a light parent, though other commands need the application,
the database and the SDKs. This is the only dynamic import: command modules import what they need at their top.
"""

import importlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from parley.cli.errors import FAILED, find_sentence, tell


class Entry(NamedTuple):
    """Where a command lives, as `module:attribute`, and its line in `parley --help`."""

    target: str
    summary: str


COMMANDS: Mapping[str, Entry] = {
    "migrate": Entry("parley.cli.migrate:migrate", "Bring the database schema to what this version needs."),
    "doctor": Entry("parley.cli.doctor:doctor", "Check everything the service needs, and say what to do next."),
    "config": Entry("parley.cli.config:config", "Show every setting and where it came from; secrets stay hidden."),
    "users": Entry("parley.cli.users:app", "Create, list and change accounts; export and erase people."),
    "retention": Entry("parley.cli.retention:retention", "Archive, delete and forget what is old."),
    "sites": Entry("parley.cli.sites:app", "Create, list and change web sites that carry the widget."),
    "embed-snippet": Entry("parley.cli.embed:embed", "Print the tag that puts the widget on a page."),
    "ask": Entry("parley.cli.ask:ask", "Ask the agent a question and watch the answer grow."),
    "chat": Entry("parley.cli.chat:chat", "Chat with a service that runs, in this terminal."),
    "probe": Entry("parley.cli.probe:probe", "Have a conversation as a visitor has it, and say how it went."),
    "models": Entry("parley.cli.models:models", "List the models that are configured and ask their provider for each."),
    "openapi": Entry("parley.cli.openapi:openapi", "Print the OpenAPI document as JSON."),
}


class LazyGroup(TyperGroup):
    """The commands, those of the table as placeholders, and the border where errors become words."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in COMMANDS.items():
            self.add_command(TyperCommand(name, help=entry.summary), name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the real command in the place of its placeholder, then go on as usual."""
        if args and args[0] in COMMANDS:
            self.add_command(load_command(args[0]), args[0])
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and end the process with its exit code."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except TyperException as error:
            # `parley` alone has printed its help already.
            if message := error.format_message():
                tell(f"{message}{_hint(error)}")
            sys.exit(error.exit_code)
        except typer.Abort:
            tell("stopped")
            sys.exit(FAILED)
        except Exception as error:
            sentence = find_sentence(error)
            if sentence is None:
                raise
            tell(sentence)
            sys.exit(FAILED)
        sys.exit(code if isinstance(code, int) else 0)


def load_command(name: str) -> Any:
    """Import the module of a command and return the command."""
    module, _, attribute = COMMANDS[name].target.partition(":")
    target = getattr(importlib.import_module(module), attribute)
    if not isinstance(target, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name)(target)
        target = single
    return get_command(target)


def _hint(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f" (try: {context.command_path} --help)" if context is not None else ""
