"""What the doctor says about one thing, and how that looks. Looks at nothing itself."""

import asyncio
import textwrap
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from parley.cli.errors import find_sentence
from parley.cli.reasons import find_reason

STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}
SUBJECT_WIDTH = 12


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line."""

    status: Literal["ok", "warn", "fail"]
    subject: str
    seen: str
    next_step: str = ""


async def look(
    subject: str, next_step: str, looking: Coroutine[Any, Any, Sequence[Verdict]], deadline_s: float, place: str = ""
) -> Sequence[Verdict]:
    """Return what a look found at a place; whatever goes wrong in it, and no answer in time, is a finding too."""
    try:
        async with asyncio.timeout(deadline_s):
            found = await looking
    except Exception as error:  # noqa: BLE001  # what is looked at may fail in any way it can
        found = [Verdict("fail", subject, _words(error, place))]
    return [replace(v, next_step=v.next_step or ("" if v.status == "ok" else next_step)) for v in found]


def _words(error: Exception, place: str) -> str:
    """Return what went wrong; where, only when the place itself is not what is wrong."""
    reason = find_reason(error)
    if reason is None and (sentence := find_sentence(error)):
        return sentence
    reason = reason or f"failed with {type(error).__name__}"
    return f"{place}: {reason}" if place else reason


def show(console: Console, verdicts: Sequence[Verdict]) -> None:
    """Print them, one line each and one more for the next step."""
    for verdict in verdicts:
        line = Text.assemble(
            (f"{verdict.status:<5}", f"bold {STYLES[verdict.status]}"),
            (f"{verdict.subject:<{SUBJECT_WIDTH}}", "bold"),
            " ".join(verdict.seen.split()),
        )
        console.print(line, soft_wrap=True)
        if verdict.next_step:
            console.print(Text(textwrap.indent(f"next: {verdict.next_step}", " " * 5), "cyan"), soft_wrap=True)


def summary(verdicts: Sequence[Verdict]) -> str:
    """Return the last line."""
    failed = sum(v.status == "fail" for v in verdicts)
    warned = sum(v.status == "warn" for v in verdicts)
    if failed:
        return f"{failed} of {len(verdicts)} failed"
    return f"ready to serve{f', {warned} warning' + 's' * (warned > 1) if warned else ''}"
