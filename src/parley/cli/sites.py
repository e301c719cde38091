"""`parley sites`: web sites that carry the widget. What may be done and how is SiteService's business."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parley.auth.sites_schemas import CreateSiteCommand, PatchSiteCommand, SiteView, SiteWithSecretView
from parley.auth.sites_service import SiteService
from parley.cli.accounts import open_sites
from parley.cli.errors import CommandError
from parley.cli.notes import note_on_stderr
from parley.settings import load

PAGE = 500
COLUMNS = ("Name", "Key", "Origins", "State", "Created")
T = TypeVar("T")

app = typer.Typer(
    name="sites",
    no_args_is_help=True,
    add_completion=False,
    help="Create, list and change web sites that carry the widget.",
)

Key = Annotated[str, typer.Argument(metavar="KEY", help="The public key (pk_...).", show_default=False)]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    origin: Annotated[
        list[str], typer.Option("--origin", help="Where its pages are (https://shop.example); may be repeated.")
    ],
) -> None:
    """Make a site. Its secret is printed once: the site's server signs with it who its users are."""
    try:
        wanted = CreateSiteCommand(name=name, origins=origin)
    except ValidationError as error:
        raise _sentence(error) from None
    site = _with_sites(lambda sites: sites.create_site(wanted, None))
    print(f"created {site.name}, id {site.id}")
    _tell_secret(site)


@app.command(name="list")
def list_() -> None:
    """List all sites, in the order they were made; tab-separated where nobody watches."""
    sites = _with_sites(_all_sites)
    rows = [(s.name, s.key, " ".join(s.origins), _state(s), f"{s.created_at:%Y-%m-%d %H:%M}", str(s.id)) for s in sites]
    console = Console(highlight=False)
    if not console.is_terminal:
        for row in rows:
            print("\t".join(row))
        return
    table = Table(*COLUMNS, box=None, header_style="bold", pad_edge=False)
    for *shown, _ in rows:  # ids are for programs
        cells = (Text(cell, overflow="fold") for cell in shown)
        table.add_row(*cells, style="dim" if "disabled" in shown else "")
    console.print(table)
    console.print(f"{len(rows)} site{'' if len(rows) == 1 else 's'}", style="dim")


@app.command()
def disable(key: Key) -> None:
    """Switch a site off: its pages are refused within seconds, its users when they renew their sessions."""
    site = _with_sites(lambda sites: _change(sites, key, PatchSiteCommand(disabled=True)))
    print(f"disabled {site.name}; its pages are refused")


@app.command()
def enable(key: Key) -> None:
    """Switch a site on again."""
    site = _with_sites(lambda sites: _change(sites, key, PatchSiteCommand(disabled=False)))
    print(f"enabled {site.name}")


@app.command()
def set_origins(
    key: Key,
    origin: Annotated[
        list[str],
        typer.Argument(metavar="ORIGIN...", help="All of them: others may call no longer.", show_default=False),
    ],
) -> None:
    """Say anew where the pages of a site are."""
    try:
        wanted = PatchSiteCommand(origins=origin)
    except ValidationError as error:
        raise _sentence(error) from None
    site = _with_sites(lambda sites: _change(sites, key, wanted))
    print(f"{site.name} is at {' '.join(site.origins)}")


@app.command()
def rotate(key: Key) -> None:
    """Give a site another secret, printed once. What the old one signed is refused from now on."""

    async def work(sites: SiteService) -> SiteWithSecretView:
        return await sites.rotate_secret(await sites.find_id(key), None)

    site = _with_sites(work)
    print(f"{site.name} has another secret; sessions that began with the old one are not renewed")
    _tell_secret(site)


async def _change(sites: SiteService, key: str, command: PatchSiteCommand) -> SiteView:
    return await sites.change_site(await sites.find_id(key), command, None)


async def _all_sites(sites: SiteService) -> list[SiteView]:
    found: list[SiteView] = []
    while True:
        page = await sites.list_sites(PAGE, found[-1].id if found else None)
        found += page.data
        if not page.has_more:
            return found


def _with_sites(work: Callable[[SiteService], Awaitable[T]]) -> T:
    note_on_stderr()
    settings = load(env_file=Path(".env"))

    async def run() -> T:
        async with open_sites(settings) as sites:
            return await work(sites)

    return asyncio.run(run())


def _tell_secret(site: SiteWithSecretView) -> None:
    print(f"key     {site.key}")
    print(f"secret  {site.secret}  (shown this once: it belongs on the site's server, never into a page)")


def _state(site: SiteView) -> str:
    return "disabled" if site.is_disabled else "active"


def _sentence(error: ValidationError) -> CommandError:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    what = "origin" if first["loc"][0] == "origins" else first["loc"][0]
    return CommandError(f"the {what} {first['msg'].removeprefix('Value error, ')}")
