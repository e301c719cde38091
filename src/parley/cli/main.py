"""The `parley` command: one file a command, gathered here."""

import typer

app = typer.Typer(name="parley", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.callback()
def parley() -> None:
    """Real-time AI chat that never loses an answer."""
