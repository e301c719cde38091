"""`parley retention`: once a day, what is old goes. What that means is the business of Retention."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from parley.cli.accounts import open_database
from parley.cli.errors import CommandError
from parley.cli.notes import note_on_stderr
from parley.core.clock import SystemClock
from parley.privacy.retention import Ages, Retention
from parley.settings import load

MOST_DAYS = 36_500


def _option(help_: str) -> Any:
    return typer.Option(metavar="DAYS", min=1, max=MOST_DAYS, help=help_)


def retention(
    archive_after: Annotated[int | None, _option("Archive conversations without a word for so long.")] = None,
    delete_after: Annotated[int | None, _option("Delete conversations without a word for so long.")] = None,
    deleted_after: Annotated[int, _option("Forget so long after that a conversation was deleted.")] = 7,
    audit_after: Annotated[int | None, _option("Delete entries of the audit trail that are so old.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Archive, delete and forget what is old.

    Safe beside a running service. It can be stopped at any moment: the next run goes on. Sessions and tokens that have
    expired, and guests without anything, go in any case.
    """
    if archive_after and delete_after and archive_after >= delete_after:
        raise CommandError("--archive-after must be shorter than --delete-after")
    note_on_stderr()
    settings = load(env_file=Path(".env"))
    ages = Ages(_days(archive_after), _days(delete_after), timedelta(days=deleted_after), _days(audit_after))

    async def run() -> None:
        async with open_database(settings) as database:
            work = Retention(database, SystemClock(), is_dry=dry_run)
            try:
                await work.run(ages)
            finally:  # also what was done until it was stopped
                for what, count in work.counts.items():
                    print(f"{what}\t{count}")

    asyncio.run(run())


def _days(number: int | None) -> timedelta | None:
    return None if number is None else timedelta(days=number)
