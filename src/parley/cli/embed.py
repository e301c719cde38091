"""`parley embed-snippet`: what a page needs to carry the widget. Opens nothing and asks nobody."""

import re
from pathlib import Path
from typing import Annotated

import typer

from parley.auth.sites_schemas import page_origin
from parley.cli.errors import CommandError
from parley.settings import load

_KEY = re.compile(r"pk_[A-Za-z0-9_-]{8,61}\Z")


def embed(
    origin: Annotated[
        str | None,
        typer.Option(help="Where this service is reached.", show_default="PARLEY_PUBLIC_ORIGIN, else the address here"),
    ] = None,
    site: Annotated[str | None, typer.Option(help="The public key of the site (pk_...).", show_default=False)] = None,
) -> None:
    """Print the tag that puts the widget on a page.

    And what the page's Content-Security-Policy has to allow, where it has one.
    """
    server = load(env_file=Path(".env")).server
    try:
        here = page_origin(origin or server.public_origin or f"http://{server.host}:{server.port}")
    except ValueError as error:
        raise CommandError(f"the origin {error}") from None
    if site is not None and not _KEY.match(site):
        raise CommandError("a site's public key looks like pk_... (parley sites list shows it)")
    named = f' data-site="{site}"' if site else ""
    print(f'<script async src="{here}/widget.js"{named}></script>')
    print()
    print("Where the page has a Content-Security-Policy, add to it:")
    print(f"  script-src {here}")
    print(f"  connect-src {here} {here.replace('http', 'ws', 1)}")
