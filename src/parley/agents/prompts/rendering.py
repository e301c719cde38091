"""Fills the `{{variables}}` of a prompt from a dataclass whose fields are all it may name. Reads only package data."""

import re
from dataclasses import dataclass, fields
from datetime import date
from importlib import resources

_PLACE = re.compile(r"\{\{\s*(\w*)\s*\}\}")
_BROKEN = re.compile(r"\{\{(?!\s*\w*\s*\}\})")
VALUE_CHARACTERS = 80  # a value is a name or a date, never a place for instructions


class PromptError(ValueError):
    """A prompt names what it is not given; the message is for the person who wrote it, and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class AgentVariables:
    """What the prompt of an agent may name."""

    agent_name: str
    user_name: str
    today: date


def read_prompt(name: str) -> str:
    """Read a prompt that ships with the package. Blocks: for the start of the process."""
    return resources.files(__package__).joinpath(f"{name}.md").read_text(encoding="utf-8").strip()


def check_prompt(template: str, variables: type[AgentVariables] = AgentVariables) -> None:
    """Raise PromptError where a prompt names an unknown variable, or none it can name: call it where one is stored."""
    known = {field.name for field in fields(variables)}
    there_are = f"there are {', '.join(f'{{{{{name}}}}}' for name in sorted(known))}"
    if broken := _BROKEN.search(template):
        raise PromptError(f"no variable after the braces at character {broken.start() + 1}; {there_are}")
    for place in _PLACE.finditer(template):
        if place[1] not in known:
            raise PromptError(f"unknown variable at character {place.start() + 1}; {there_are}")


def render_prompt(template: str, variables: AgentVariables) -> str:
    """Fill a prompt once: what a value contains is never filled again."""
    check_prompt(template, type(variables))
    return _PLACE.sub(lambda place: as_value(getattr(variables, place[1])), template)


def as_value(value: str | date) -> str:
    """Return a value as one short printable line, as people choose their own names."""
    text = value.isoformat() if isinstance(value, date) else value
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line[:VALUE_CHARACTERS]
