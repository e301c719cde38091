"""The one place where an error becomes what a person reads: a line on stderr and an exit code.

Errors are known by their names, so that this file imports none of the packages they come from: what nobody imported
cannot have been raised. What is not listed is a mistake of ours and keeps its traceback.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from parley.cli.reasons import find_reason

FAILED = 1


class CommandError(Exception):
    """A command cannot do what it was asked; the message is one sentence for the person who asked."""


def _text(error: BaseException) -> str:
    return str(error)


def _message(error: Any) -> str:
    return str(error.message)


def _database_away(error: BaseException) -> str:
    reason = find_reason(error)
    return f"the database cannot be reached{f': {reason}' if reason else ''} (parley doctor tells more)"


SENTENCES: Mapping[str, Callable[[Any], str | None]] = {
    "parley.cli.errors.CommandError": _text,
    "parley.settings.SettingsError": _text,
    "parley.core.embedded.errors.EmbeddedError": _text,
    "parley.core.errors.DatabaseUnavailable": _database_away,
    "parley.core.errors.AppError": _message,
    "parley.client.errors.ParleyError": _message,
    # Only what the reasons know is the user's to mend: rights, names, locks. Anything else in SQL is ours.
    "sqlalchemy.exc.DBAPIError": lambda error: (reason := find_reason(error)) and f"the database {reason}",
    "asyncpg.exceptions._base.PostgresError": lambda error: (reason := find_reason(error)) and f"the database {reason}",
    "alembic.util.exc.CommandError": lambda error: f"the migrations do not fit the database: {error}",
}


def find_sentence(error: BaseException) -> str | None:
    """Return what to say about an error that a person can do something about, None for a mistake of ours."""
    for kind in type(error).__mro__:
        describe = SENTENCES.get(f"{kind.__module__}.{kind.__qualname__}")
        if describe is not None:
            return describe(error)
    return None


def tell(sentence: str) -> None:
    """Write an error as one line on stderr."""
    line = " ".join(sentence.split())
    print(f"error: {line}", file=sys.stderr, flush=True)
