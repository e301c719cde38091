"""The tool that tells the time. The clock is handed in; time zones are the machine's."""

import re
from datetime import UTC, datetime, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from parley.agents.tools.outcome import ToolContext, ToolMistake, ToolOutcome
from parley.agents.tools.registry import tool

# Not strftime's: those follow the locale of the machine.
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
# The only shape handed to the lookup, which turns names into paths.
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(/[A-Za-z0-9_+-]{1,32}){0,2}\Z")


@tool(label="Looking at the clock", is_idempotent=True, is_public=True, deadline_s=2.0)
def current_time(  # noqa: D417  # the context is not the model's to know
    context: ToolContext, timezone: Annotated[str, Field(max_length=64)] = "UTC"
) -> ToolOutcome:
    """Tell the current date and time.

    Args:
        timezone: A name of the IANA time zone database, such as Europe/Berlin.
    """
    # A plain function: reading a zone's file blocks.
    now = context.dependencies.clock.now().astimezone(_find_zone(timezone))
    zone = "UTC" if now.tzinfo is UTC else f"{timezone}, UTC{now.isoformat()[-6:]}"
    return ToolOutcome(f"It is {describe(now)} ({zone}).", summary=f"{now:%H:%M} ({timezone})")


def _find_zone(name: str) -> tzinfo:
    if name.upper() in {"UTC", "GMT", "Z"}:
        return UTC  # also where no database is installed
    if _ZONE.match(name):
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    raise ToolMistake("timezone: not a name of the IANA time zone database; use one such as Europe/Berlin, or UTC")


def describe(moment: datetime) -> str:
    """Return a moment in words, such as `Friday, 20 November 2026, 12:42`."""
    return f"{DAYS[moment.weekday()]}, {moment.day} {MONTHS[moment.month - 1]} {moment.year}, {moment:%H:%M}"
