"""Lua steps on Redis: one round trip each, with a deadline; Redis is left alone for a second after it failed.

Decides nothing: whoever calls a step says what this worker does alone while `SharedAway` is raised.
"""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import structlog

from parley.core.clock import Clock
from parley.core.line import Line, Script
from parley.core.redis import REDIS_AWAY

log = structlog.get_logger(__name__)

REST_S = 1.0  # one caller a second pays the deadline of a Redis that hangs, not each


class SharedAway(Exception):
    """Redis did not answer, or is being left alone."""


class Scripts:
    """The steps of this worker; all of them rest together."""

    def __init__(self, line: Line, clock: Clock, deadline_s: float) -> None:
        self.line = line
        self.deadline_s = deadline_s
        self._clock = clock
        self._resting_until = 0.0

    @property
    def is_resting(self) -> bool:
        """Whether Redis failed within the last second."""
        return self._clock.monotonic() < self._resting_until

    def rest(self) -> None:
        """Leave Redis alone for a while."""
        self._resting_until = self._clock.monotonic() + REST_S

    def load(self, package: str, name: str) -> "Step":
        """Return the step of a file `name`.lua. Reads package data: for the start of the process."""
        return Step(self, name, files(package).joinpath(f"{name}.lua").read_bytes())


class Step:
    """One script."""

    def __init__(self, scripts: Scripts, name: str, source: bytes) -> None:
        self._scripts = scripts
        self._name = name
        self._script = Script(scripts.line, source, name)

    async def __call__(self, keys: Sequence[str], *arguments: str | float | bytes) -> Any:
        """Run the step; raise SharedAway when it is not known to have happened."""
        if self._scripts.is_resting:
            raise SharedAway
        try:
            return await self._script.run(keys, arguments, within_s=self._scripts.deadline_s)
        except REDIS_AWAY as error:
            if not self._scripts.is_resting:  # whoever else waited is told the same
                log.warning("shared_step_failed", step=self._name, reason=type(error).__name__, detail=str(error)[:200])
            self._scripts.rest()
            raise SharedAway from error


def tagged(*parts: str) -> str:
    """Return the hash tag of a key group; names from outside can end no tag and split no key."""
    return "parley:{" + ":".join(quote(part, safe="") for part in parts) + "}"
