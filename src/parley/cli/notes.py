"""What the packages log while a command runs: plain lines on stderr, from warnings up. Not for the service."""

import logging
import sys

import structlog
from structlog.typing import EventDict, WrappedLogger

from parley.core.logging import hide_secrets


def note_on_stderr() -> None:
    """Set up logging for a command that runs for a moment."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, hide_secrets, _as_line],
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # Says nothing but that it could not read a version number of bcrypt.
    logging.getLogger("passlib").setLevel(logging.ERROR)


def _as_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    level, name = event.pop("level"), str(event.pop("event")).replace("_", " ")
    details = ", ".join(f"{key}={value}" for key, value in event.items() if key not in {"exc_info", "stack_info"})
    return f"{level}: {name}{f' ({details})' if details else ''}"
