"""The text of `.env.example`, from the settings themselves; `python -m parley.cli.env_example > .env.example`."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

from parley.settings import SLICES, Setting, every_setting

WIDTH = 100
HEAD = """\
# Every setting of Parley, with its default. To change one, copy this file to .env and take away the # before its name.
# Real environment variables win over .env. Nothing has to be set: `parley serve` runs without this file.
# `parley config` shows what is in effect and where it came from. Made by `python -m parley.cli.env_example`.
"""
TITLES = {
    "server": "Service and HTTP",
    "database": "PostgreSQL",
    "redis": "Redis or Valkey",
    "limits": "Requests a caller may make (count/period, for example 100/minute)",
    "telemetry": "Traces (needs parley[otel])",
    "auth": "Accounts and tokens",
    "agents": "The model that answers",
    "chat": "Conversations and streams",
}


def env_example() -> str:
    """Return the whole file."""
    return "".join([HEAD, *(_group(name) for name in SLICES)])


def preferred_name(setting: Setting) -> str:
    """Return the name that people know: DATABASE_URL rather than PARLEY_DATABASE_URL."""
    return setting.env_names[-1]


def default_text(setting: Setting) -> str:
    """Return the default as it is written in a `.env` file; empty where empty has its own meaning."""
    default = setting.info.default
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        return "true" if default else "false"
    return f"{default:g}" if isinstance(default, float) else str(default)


def meaning(setting: Setting) -> str:
    """Return the description with what the type adds to it: the choices and the bounds."""
    choices, bounds = ", ".join(_choices(setting.info.annotation)), _bounds(setting.info.metadata)
    return " ".join(
        [setting.info.description or "", *([f"One of: {choices}."] if choices else []), *([bounds] if bounds else [])]
    )


def _group(name: str) -> str:
    title = TITLES[name]
    lines = ["", f"# ---- {title} {'-' * (WIDTH - len(title) - 8)}", ""]
    for setting in every_setting():
        if setting.slice != name:
            continue
        also = f" Also {setting.env_names[0]}, which wins." if len(setting.env_names) > 1 else ""
        lines += textwrap.wrap(meaning(setting) + also, WIDTH, initial_indent="# ", subsequent_indent="# ")
        lines += [f"#{preferred_name(setting)}={default_text(setting)}", ""]
    return "\n".join(lines)


def _choices(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from (str(choice) for choice in get_args(annotation))


def _bounds(metadata: Sequence[Any]) -> str:
    found = {
        name: bound for part in metadata for name in ("ge", "le") if (bound := getattr(part, name, None)) is not None
    }
    if len(found) == 2:  # noqa: PLR2004  # both of them
        return f"{found['ge']:g} to {found['le']:g}."
    return "".join(f"At {'least' if name == 'ge' else 'most'} {bound:g}." for name, bound in found.items())


def main() -> None:
    """Print the file."""
    print(env_example(), end="")


if __name__ == "__main__":
    main()
