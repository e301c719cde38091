"""Traces by OpenTelemetry: imported only where a collector is named. Knows no domain, as `telemetry`.

Spans are handed to a bounded queue; a thread cuts what must not leave, and sends. A collector that is away costs spans.
"""

import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, NamedTuple
from uuid import uuid4

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.exceptions import HTTPException
from starlette.types import Scope

from parley.core.redaction import redact
from parley.core.settings import TelemetrySettings
from parley.core.telemetry import Attributes, Mark, Origin, Stores, Telemetry

BATCH_SPANS = 128  # a batch is encoded in some 5 ms, in which the loop has its turns
EVERY_MS = 1000
CLOSE_S = 2.0
COMMAND_STORES = 2
NAME_CHARACTERS = 64
NOTED_CALLS = 64  # of stores; a request that makes more is told by their sum
# Probes and scrapes; files of the widget; and sockets, whose commands have spans of their own.
UNTRACED = r"^\w+://[^/]+/(health|metrics|widget|chat/ws/)"
# Secrets may be in a query, and whoever calls is a person.
CUT = frozenset(
    {"url.query", "url.full", "http.url", "http.target", "client.address", "client.port", "user_agent.original"}
)
_WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE)(?: INTO| FROM)? (\w+)")
_READS = re.compile(r"\b(SELECT)\b.*?\bFROM (\w+)", re.DOTALL)
_stores: ContextVar["_Noted | None"] = ContextVar("stores", default=None)


class Traces(Telemetry):
    """The traces of a worker."""

    is_on = True

    def __init__(self, settings: TelemetrySettings, version: str) -> None:
        if settings.endpoint is None:
            raise ValueError("traces need an endpoint")
        self.captures_content = settings.content
        # Else the instrumentation names attributes as nobody does any more.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
        # What a dead collector has to say fits in few lines.
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        resource = Resource.create(
            {"service.name": settings.service, "service.version": version, "service.instance.id": uuid4().hex}
        )
        sampler = ParentBased(TraceIdRatioBased(settings.share))
        self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        endpoint = settings.endpoint.get_secret_value().rstrip("/")
        exporter = OTLPSpanExporter(
            endpoint if endpoint.endswith("/v1/traces") else f"{endpoint}/v1/traces",
            headers=settings.header_fields,
            timeout=settings.timeout_s,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(_Cutting(exporter), settings.queue, EVERY_MS, min(BATCH_SPANS, settings.queue))
        )
        self._tracer = self._provider.get_tracer("parley", version)
        self._propagator = TraceContextTextMapPropagator()

    def instrument(self, app: FastAPI) -> None:
        FastAPIInstrumentor.instrument_app(
            app,
            tracer_provider=self._provider,
            meter_provider=NoOpMeterProvider(),
            excluded_urls=UNTRACED,
            exclude_spans=["send", "receive"],
        )

    def trace_id(self, scope: Scope) -> str | None:
        context = trace.get_current_span().get_span_context()
        return f"{context.trace_id:032x}" if context.is_valid else super().trace_id(scope)

    def origin(self, scope: Scope) -> Origin:
        return {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in {b"traceparent", b"tracestate"}
        }

    @contextmanager
    def serving(self, name: str, attributes: Attributes, origin: Origin) -> Iterator[str | None]:
        """Begin a trace: one of all that a socket does in a day would be no use."""
        opener = trace.get_current_span(self._propagator.extract(origin, Context())).get_span_context()
        span = self._tracer.start_span(
            name,
            Context(),
            SpanKind.SERVER,
            attributes=attributes,
            links=[Link(opener)] if opener.is_valid else (),
        )
        try:
            with (
                trace.use_span(span, record_exception=False, set_status_on_exception=False),
                self.stores("command", COMMAND_STORES),
            ):
                yield f"{span.get_span_context().trace_id:032x}"
        except BaseException as raised:
            span.set_attribute("error.type", type(raised).__name__)
            # As with requests: what a caller did wrong is no fault of the server.
            if not isinstance(raised, HTTPException) or raised.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                span.set_status(StatusCode.ERROR)
            raise
        finally:
            span.end()

    def begin(self, name: str, attributes: Attributes) -> Mark:
        return _Mark(self._tracer.start_span(name, attributes=attributes))

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
        ended_at = time.time_ns()
        span = self._tracer.start_span(
            name,
            trace.set_span_in_context(under.span, Context()) if isinstance(under, _Mark) else None,
            SpanKind.CLIENT if is_client else SpanKind.INTERNAL,
            attributes=attributes,
            start_time=ended_at - int(seconds * 1e9),
        )
        _end(span, error, ended_at)

    def stores(self, whose: str, most: int) -> Stores:
        # What nobody waits for, or nobody looks at, is not noted.
        is_traced = trace.get_current_span().get_span_context().trace_flags.sampled
        return _Noted(self._tracer, whose, most if is_traced else 0)

    @contextmanager
    def store(self, system: str, what: str) -> Iterator[None]:
        noted = _stores.get()
        if noted is None or noted.is_settled:  # nobody waits: a beat, a sweep, a round of the replicator
            yield
            return
        began_at, error = time.time_ns(), None
        try:
            yield
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            noted.add(_Call(system, what, began_at, time.time_ns(), error))

    async def close(self) -> None:
        """Send what is left; a thread that hangs in the network is left behind."""
        closing = threading.Thread(target=self._provider.shutdown, name="close traces", daemon=True)
        closing.start()
        loop = asyncio.get_running_loop()
        latest = loop.time() + CLOSE_S
        while closing.is_alive() and loop.time() < latest:  # noqa: ASYNC110  # a thread has no event for it
            await asyncio.sleep(0.02)


class _Mark(Mark):
    def __init__(self, span: Span) -> None:
        self.span = span

    def tell(self, attributes: Attributes, *, name: str | None = None) -> None:
        self.span.set_attributes(attributes)
        if name is not None:
            self.span.update_name(name)

    def end(self, error: str | None = None) -> None:
        _end(self.span, error)


class _Call(NamedTuple):
    """One call of a store; times in ns of the wall clock, as spans have them."""

    system: str
    what: str
    began_at: int
    ended_at: int
    error: str | None


class _Noted(Stores):
    """Binds itself until it is settled, or the context ends."""

    def __init__(self, tracer: trace.Tracer, whose: str, most: int) -> None:
        self._tracer = tracer
        self._whose = whose
        self._most = most
        self._calls: list[_Call] = []
        self._sums: dict[str, tuple[int, int]] = {}
        self.is_settled = not most
        self._span = trace.get_current_span()
        self._before = _stores.set(self)

    def __exit__(self, *exc_info: object) -> None:
        self.settle()
        _stores.reset(self._before)

    def add(self, call: _Call) -> None:
        if self.is_settled:
            return
        count, spent_ns = self._sums.get(call.system, (0, 0))
        self._sums[call.system] = (count + 1, spent_ns + _spent_ns(call))
        if len(self._calls) < NOTED_CALLS:
            self._calls.append(call)

    def settle(self) -> None:
        if self.is_settled:
            return
        self.is_settled = True
        for system, (count, spent_ns) in self._sums.items():
            prefix = f"parley.{self._whose}.{system}"
            self._span.set_attributes({f"{prefix}.calls": count, f"{prefix}.seconds": spent_ns / 1e9})
        surroundings = trace.set_span_in_context(self._span, Context())
        for call in sorted(self._calls, key=_spent_ns)[-self._most :]:
            summary = _summary(call.what)
            span = self._tracer.start_span(
                f"{call.system} {summary}",
                surroundings,
                SpanKind.CLIENT,
                {"db.system.name": call.system, "db.query.summary": summary},
                start_time=call.began_at,
            )
            _end(span, call.error, call.ended_at)


class _Cutting(SpanExporter):
    """Sends spans without what must not leave; in the thread of the queue, so that no request pays for it."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_cut(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _cut(span: ReadableSpan) -> ReadableSpan:
    attributes = {name: _redacted(value) for name, value in (span.attributes or {}).items() if name not in CUT}
    for event in span.events:
        # Its message and stack may hold what somebody wrote; the log has them, redacted, under the same trace.
        attributes["error.type"] = str((event.attributes or {}).get("exception.type", event.name))
    return ReadableSpan(
        redact(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    return [redact(part) if isinstance(part, str) else part for part in value] if isinstance(value, tuple) else value


def _end(span: Span, error: str | None, ended_at: int | None = None) -> None:
    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR)
    span.end(ended_at)


def _spent_ns(call: _Call) -> int:
    return call.ended_at - call.began_at


def _summary(what: str) -> str:
    """Return what a statement of ours is about: the first thing it writes, else the first it reads."""
    found = _WRITES.search(what) or _READS.search(what)
    return f"{found[1]} {found[2]}" if found else what[:NAME_CHARACTERS]
