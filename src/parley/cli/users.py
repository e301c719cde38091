"""`parley users`: accounts, for those who run the service. What may be done and how is AuthService's business."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parley.auth.schemas import RegisterCommand, UserView, normal_email
from parley.auth.service import AuthService
from parley.auth.tokens import Role
from parley.cli.accounts import open_accounts, open_privacy
from parley.cli.errors import CommandError
from parley.cli.notes import note_on_stderr
from parley.privacy.erasure import Erasure
from parley.privacy.export import Export
from parley.settings import load

PAGE = 500
PASSWORD_LINE_BYTES = 4096  # far beyond any password that is accepted
COLUMNS = ("E-mail", "Name", "Role", "State", "Created")
T = TypeVar("T")

app = typer.Typer(
    name="users",
    no_args_is_help=True,
    add_completion=False,
    help="Create, list and change accounts; export and erase people.",
)

Email = Annotated[str, typer.Argument(metavar="EMAIL", show_default=False)]
Person = Annotated[str, typer.Argument(metavar="EMAIL_OR_ID", show_default=False)]


@app.command()
def create(
    email: Email,
    name: Annotated[str, typer.Option(help="The name that others see.", show_default=False)] = "",
    role: Annotated[Role, typer.Option(help="What the account may do.")] = "user",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
    ] = False,
) -> None:
    """Make an account. The password is asked for, or read from standard input: never an argument."""
    _normal(email)
    password = _read_password() if password_stdin else _ask_password()
    try:
        # The same checks as for those who register themselves.
        wanted = RegisterCommand(email=email, password=password, name=name)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise CommandError(f"the {first['loc'][0]} {first['msg'].removeprefix('Value error, ')}") from None
    user = _with_accounts(lambda accounts: accounts.create_user(wanted.email, wanted.password, wanted.name, role))
    print(f"created {user.email} ({user.role}), id {user.id}")


@app.command(name="list")
def list_() -> None:
    """List all registered accounts, in the order they were made; tab-separated where nobody watches."""
    users = _with_accounts(_all_users)
    rows = [(u.email or "", u.name, u.role, _state(u), f"{u.created_at:%Y-%m-%d %H:%M}", str(u.id)) for u in users]
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
    console.print(f"{len(rows)} account{'' if len(rows) == 1 else 's'}", style="dim")


@app.command()
def disable(email: Email) -> None:
    """Switch an account off: its sessions end within seconds, wherever they are open."""
    address = _normal(email)
    user = _with_accounts(lambda accounts: accounts.set_disabled(address, disabled=True))
    print(f"disabled {user.email}; its sessions have ended")


@app.command()
def enable(email: Email) -> None:
    """Switch an account on again; its owner signs in anew."""
    address = _normal(email)
    user = _with_accounts(lambda accounts: accounts.set_disabled(address, disabled=False))
    print(f"enabled {user.email}")


@app.command()
def set_role(email: Email, role: Annotated[Role, typer.Argument(show_default=False)]) -> None:
    """Give an account another role; its sessions end, because their tokens carry the old one."""
    address = _normal(email)
    user = _with_accounts(lambda accounts: accounts.set_role(address, role))
    print(f"{user.email} has the role {user.role}")


@app.command()
def export(person: Person) -> None:
    """Print everything that is held about a person, as JSON: into a file, for whoever asks what we know."""

    async def work(exported: Export, _: Erasure) -> None:
        user_id = _as_id(person) or await exported.find_id(_normal(person))
        async for piece in await exported.read(user_id):
            sys.stdout.buffer.write(piece)

    _with_privacy(work)
    sys.stdout.flush()


@app.command()
def erase(
    person: Person,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: it cannot be undone.")] = False,
) -> None:
    """Erase a person with all that was said: sessions, conversations, account. May be repeated by the id."""

    async def work(exported: Export, erasure: Erasure) -> tuple[UUID, Mapping[str, int]]:
        user_id = _as_id(person) or await exported.find_id(_normal(person))
        return user_id, await erasure.erase(user_id)

    if not yes:
        if not sys.stdin.isatty():
            raise CommandError("there is no terminal to ask on: use --yes")
        typer.confirm(f"Erase {person} for good?", abort=True, err=True)
    user_id, removed = _with_privacy(work)
    print(f"erased {user_id}: {', '.join(f'{count} {what}' for what, count in removed.items() if count)}".rstrip(": "))


def _with_privacy(work: Callable[[Export, Erasure], Awaitable[T]]) -> T:
    note_on_stderr()
    settings = load(env_file=Path(".env"))

    async def run() -> T:
        async with open_privacy(settings) as (export, erasure):
            return await work(export, erasure)

    return asyncio.run(run())


def _as_id(person: str) -> UUID | None:
    """Return the id that this is: those whom sites name, and guests, have no address."""
    try:
        return UUID(person)
    except ValueError:
        return None


def _with_accounts(work: Callable[[AuthService], Awaitable[T]]) -> T:
    note_on_stderr()
    settings = load(env_file=Path(".env"))

    async def run() -> T:
        async with open_accounts(settings) as accounts:
            return await work(accounts)

    return asyncio.run(run())


async def _all_users(accounts: AuthService) -> list[UserView]:
    users: list[UserView] = []
    while True:
        page = await accounts.list_users(PAGE, users[-1].id if users else None)
        users += page
        if len(page) < PAGE:
            return users


def _normal(email: str) -> str:
    try:
        return normal_email(email)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="EMAIL") from None


def _state(user: UserView) -> str:
    return "disabled" if user.is_disabled else "active"


def _ask_password() -> str:
    if not sys.stdin.isatty():
        raise CommandError("there is no terminal to ask for a password on: use --password-stdin")
    answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt="The same again", err=True)
    return answer


def _read_password() -> str:
    line = sys.stdin.buffer.readline(PASSWORD_LINE_BYTES)
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise CommandError("the password is not UTF-8 text") from None
