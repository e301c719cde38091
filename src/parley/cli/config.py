"""`parley config`: every setting as it is in effect, and where it came from. Nothing secret, nothing opened."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parley.cli.masks import mask
from parley.core.embedded.folder import DataFolder, find_data_folder
from parley.settings import Settings, every_setting, load

DEFAULT = "default"


class Row(NamedTuple):
    """A setting as it is shown."""

    slice: str
    name: str
    value: Any
    source: str
    meaning: str
    """What an empty value stands for here and now."""


def config(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False) -> None:
    """Show every setting and where it came from; secrets stay hidden."""
    settings = load(env_file=Path(".env"))
    rows = list(effective(settings))
    if as_json:
        shown = {row.name: {"value": row.value, "source": row.source} for row in rows}
        print(json.dumps(shown, indent=2))
    else:
        _show(rows)
    for name in settings.unknown:
        print(f"warning: unknown setting {name}", file=sys.stderr)


def effective(settings: Settings) -> Iterator[Row]:
    """Yield all settings in the order of the documentation."""
    meanings = _meanings(settings)
    for setting in every_setting():
        value = mask(setting.name, getattr(getattr(settings, setting.slice), setting.name))
        name = setting.env_names[0]
        yield Row(setting.slice, name, value, settings.sources.get(name, DEFAULT), meanings.get(name, ""))


def _meanings(settings: Settings) -> Mapping[str, str]:
    server = settings.server
    folder = find_data_folder(server.data_dir)
    is_embedded = settings.database.url is None or settings.redis.url is None
    return {
        "PARLEY_WORKERS": "2" if is_embedded else "1",
        "PARLEY_DATA_DIR": str(folder.path),
        "PARLEY_DOCS": "yes" if server.serves_docs else "no",
        "PARLEY_PUBLIC_ORIGIN": "" if server.is_production else "loopback names",
        "PARLEY_DATABASE_URL": "embedded PostgreSQL",
        "PARLEY_REDIS_URL": "embedded Valkey",
        "PARLEY_AUTH_SECRETS": _secret_kept(folder),
        "PARLEY_MODEL_API_KEY": "demo model" if settings.agents.is_demo else "",
        "PARLEY_MODEL_BASE_URL": "" if settings.agents.is_demo else "OpenAI",
    }


def _secret_kept(folder: DataFolder) -> str:
    return f"kept in {folder.secret}" if folder.secret.exists() else f"to be made in {folder.secret}"


def _show(rows: list[Row]) -> None:
    console = Console()
    if not console.is_terminal:
        for row in rows:
            print(row.name, _text(row), row.source, sep="\t")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("Setting", no_wrap=True, min_width=max(len(row.name) for row in rows))
    table.add_column("Value")
    table.add_column("From")
    last = ""
    for row in rows:
        if row.slice != last:
            table.add_row(*(("", "", "") if last else ()))
            table.add_row(Text(row.slice, style="bold cyan"))
            last = row.slice
        is_default = row.source == DEFAULT
        value = Text(_text(row), style="dim" if row.value in (None, []) else "", overflow="fold")
        table.add_row(Text(row.name), value, Text(row.source, style="dim" if is_default else "green"))
    console.print(table)


def _text(row: Row) -> str:
    if row.value in (None, []):
        return f"({row.meaning})" if row.meaning else "-"
    if isinstance(row.value, bool):
        return "yes" if row.value else "no"
    if isinstance(row.value, float):
        return f"{row.value:g}"
    return ", ".join(str(part) for part in row.value) if isinstance(row.value, list) else str(row.value)
