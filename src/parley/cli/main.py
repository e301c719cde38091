"""The `parley` command: one file a command, gathered here. Light commands stand below, all others in `lazy`."""

from typing import Annotated

import typer

from parley import __version__
from parley.cli.lazy import LazyGroup
from parley.cli.serve import serve

app = typer.Typer(
    name="parley", cls=LazyGroup, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"parley {__version__}")
        raise typer.Exit


@app.callback()
def parley(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Real-time AI chat that never loses an answer."""


app.command()(serve)
