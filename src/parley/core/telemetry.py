"""Traces: where a request's time went, told to a collector where one is named. This is what everybody else sees of it.

As it stands here everything does nothing: without a collector OpenTelemetry's SDK is not even imported. With one,
`tracing` takes its place.
"""

import importlib
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

from fastapi import FastAPI
from starlette.types import Scope

from parley.core.settings import TelemetrySettings

Attributes = Mapping[str, str | int | float | bool | list[str]]
Origin = Mapping[str, str]
"""Of a connection: the headers that name the trace it belongs to."""
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_NOTHING: AbstractContextManager[None] = nullcontext()


class TelemetryMissing(Exception):
    """Traces are asked for, and their packages are not installed."""


class Mark:
    """A span that has begun, and is nobody's surroundings: its children name it."""

    def tell(self, attributes: Attributes, *, name: str | None = None) -> None:
        """Add what is known by now."""

    def end(self, error: str | None = None) -> None:
        """End it; an error is told by its code."""


class Stores:
    """The calls of stores that somebody waits for: the slowest get spans, the rest is summed up."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.settle()

    def settle(self) -> None:
        """Tell what there was; nothing is added from here on."""


_NO_MARK, _NO_STORES = Mark(), Stores()


class Telemetry:
    """The traces of a worker: none."""

    is_on = False
    captures_content = False
    """Whether spans may carry what people and models said."""

    def instrument(self, app: FastAPI) -> None:
        """Give each request of this application a server span; sockets have none, their commands do."""

    def trace_id(self, scope: Scope) -> str | None:
        """Return under which trace this connection is known: ours, or that of whoever calls."""
        for name, value in scope["headers"]:
            if name == b"traceparent":
                given = _TRACEPARENT.match(value)
                return given[1].decode() if given else None
        return None

    def origin(self, scope: Scope) -> Origin:  # noqa: ARG002  # the others'
        """Return what tells later who opened a connection, and holds on to nothing else of it."""
        return {}

    def serving(self, name: str, attributes: Attributes, origin: Origin) -> AbstractContextManager[str | None]:  # noqa: ARG002
        """Surround what is done for one command of a socket, as a request is; gives the trace's id."""
        return _NOTHING

    def begin(self, name: str, attributes: Attributes) -> Mark:  # noqa: ARG002
        """Begin a span of ours below whatever surrounds us."""
        return _NO_MARK

    def took(
        self,
        name: str,
        seconds: float,
        attributes: Attributes,
        *,
        under: Mark,
        is_client: bool = False,
        error: str | None = None,
    ) -> None:
        """Tell of something that ends now and took so long."""

    def stores(self, whose: str, most: int) -> Stores:  # noqa: ARG002
        """Take note of the calls of stores from here on; at most so many of them become spans."""
        return _NO_STORES

    def store(self, system: str, what: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Surround one call of a store."""
        return _NOTHING

    async def close(self) -> None:
        """Send what is left, for a moment."""


def open_telemetry(settings: TelemetrySettings, version: str) -> Telemetry:
    """Return the traces of this worker, for the start of the process; nothing is sent before its first span ends."""
    if settings.endpoint is None:
        return Telemetry()
    try:
        # The one import that only those pay for who asked for it.
        tracing: Any = importlib.import_module("parley.core.tracing")
    except ModuleNotFoundError as error:
        raise TelemetryMissing(
            f"a collector is named, and the module {error.name} is missing. Install it: pip install 'parley[otel]'"
        ) from error
    traces: Telemetry = tracing.Traces(settings, version)
    return traces
