"""What `parley serve` says once it serves. Only words and their look: it decides and asks nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import parley
from parley.settings import Settings

DEMO = "demo model: set OPENAI_API_KEY for a real one"


@dataclass(frozen=True, slots=True)
class Started:
    """What the start found out."""

    address: str
    workers: int
    seconds: float
    database: str | None
    """The embedded PostgreSQL, or None where a URL names another."""
    redis: str | None
    """The embedded Valkey, or None where a URL names another."""
    data_folder: str | None
    missing: Sequence[str] = ()
    """What is not ready yet."""


def facts(settings: Settings, started: Started) -> list[tuple[str, str]]:
    """Return the lines of the banner, each with its label."""
    pages = ["/docs"] if settings.server.serves_docs else []
    count = f"{started.workers} worker{'s' if started.workers > 1 else ''}"
    lines = [
        ("Service", f"{started.address}  ({count})"),
        ("Pages", "  ".join(f"{started.address}{page}" for page in [*pages, "/health"])),
        ("Database", started.database or _place(settings.database.url)),
        ("Redis", started.redis or _place(settings.redis.url)),
        ("Model", _model(settings)),
        ("Data", started.data_folder or ""),
        ("Not ready yet", ", ".join(started.missing)),
    ]
    return [line for line in lines if line[1]]


def next_steps(settings: Settings, started: Started) -> list[str]:
    """Return what to try next: add a line where a feature lands."""
    steps = [f"curl {started.address}/health"]
    if settings.server.serves_docs:
        steps.append(f"open {started.address}/docs")
    return steps


def show(console: Console, settings: Settings, started: Started) -> None:
    """Print the banner: a box in a terminal, plain lines elsewhere."""
    state = "still starting" if started.missing else "ready"
    title = f"Parley {parley.__version__}"
    lines = facts(settings, started)
    steps = next_steps(settings, started)
    if not console.is_terminal:
        body = [f"{label}: {text}" for label, text in lines] + [f"Try: {step}" for step in steps]
        console.out("\n".join([f"{title} {state} after {started.seconds:.1f} s", *body]), highlight=False)
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in lines:
        grid.add_row(label, Text(text), style="yellow" if label == "Not ready yet" else "")
    grid.add_row()
    for number, step in enumerate(steps):
        grid.add_row("Try next" if number == 0 else "", Text(step, style="cyan"))
    console.print(
        Panel(
            grid,
            title=f"[bold]{title}[/] [{'yellow' if started.missing else 'green'}]{state}[/]",
            subtitle=f"[dim]{started.seconds:.1f} s, Ctrl-C ends it[/]",
            border_style="dim",
            padding=(1, 2),
            expand=False,
        ),
        highlight=False,
    )


def _place(url: SecretStr | None) -> str:
    """Return host and name of a URL, never its user or password."""
    if url is None:
        return ""
    parts = urlsplit(url.get_secret_value())
    host = parts.netloc.rpartition("@")[2] or "local socket"
    return f"{host}{parts.path}"


def _model(settings: Settings) -> str:
    if settings.agents.is_demo:
        return DEMO
    base_url = settings.agents.base_url or "https://api.openai.com/v1"
    return f"{settings.agents.name} at {urlsplit(base_url).netloc.rpartition('@')[2]}"
