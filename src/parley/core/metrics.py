"""What a worker counts of itself: the metrics that core fills, and what those of other packages are made with.

Made once by the app and handed down. Every label has few values, and none that comes from outside.
"""

from bisect import bisect_left
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

OTHER = "other"
QUICK_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
STORE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# What peers and we end sockets with; a peer may send any number.
CLOSE_CODES = (1000, 1001, 1002, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 4400, 4401, 4403, 4404, 4408, 4429)
REFUSALS = (400, 401, 403, 404, 408, 409, 413, 429, 500, 503)


class Names:
    """The values of one label: those that are known, and a few more if `learns`; all else is `other`."""

    def __init__(self, known: Iterable[object] = (), *, learns: int = 0) -> None:
        self._known = {str(name) for name in known}
        self._room = learns

    def of(self, name: object) -> str:
        """Return the label for a name."""
        text = str(name)
        if text in self._known:
            return text
        if self._room <= 0:
            return OTHER
        self._room -= 1
        self._known.add(text)
        return text


class Tally:
    """A histogram for what happens with every token: counted in plain numbers, told once a second by `Readings`."""

    def __init__(self, histogram: Histogram, bounds_s: tuple[float, ...]) -> None:
        self._histogram = histogram
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Note one."""
        self._counts[bisect_left(self._bounds_s, value)] += 1
        self._sum += value

    def tell(self) -> None:
        """Hand on what was noted."""
        counts, self._counts = self._counts, [0] * len(self._counts)
        total, self._sum = self._sum, 0.0
        for bucket, count in zip(self._histogram._buckets, counts, strict=True):  # noqa: SLF001  # one value at a time costs 3 us
            if count:
                bucket.inc(count)
        if any(counts):
            self._histogram._sum.inc(total)  # noqa: SLF001  # the same


class Metrics:
    """Those of the edge, the stores and the process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would be twice the series
        self.registry = registry = registry or CollectorRegistry()
        self.methods, self.close_codes, self.refusals = Names(METHODS), Names(CLOSE_CODES), Names(REFUSALS)

        self.http_requests = Counter(
            "http_requests_total",
            "HTTP requests served, by route template.",
            ["method", "handler", "status"],
            registry=registry,
        )
        self.http_duration = Histogram(
            "http_request_duration_seconds",
            "Time from a request to the end of its answer; streams last as long as they are watched.",
            ["method", "handler"],
            buckets=QUICK_S,
            registry=registry,
        )
        self.http_streams_open = Gauge(
            "http_streams_open", "Event streams being served.", multiprocess_mode="livesum", registry=registry
        )
        self.ws_connections = Gauge(
            "chat_ws_connections", "WebSockets that are open.", multiprocess_mode="livesum", registry=registry
        )
        self.ws_accepted = Counter("chat_ws_accepted_total", "WebSockets accepted.", registry=registry)
        self.ws_refused = Counter(
            "chat_ws_refused_total", "WebSockets refused before the accept, by status.", ["status"], registry=registry
        )
        self.ws_closed = Counter(
            "chat_ws_closed_total", "WebSockets that ended, by close code.", ["code"], registry=registry
        )
        self.limits_hit = Counter(
            "chat_limits_hit_total", "Requests refused because a limit was used up.", ["limit"], registry=registry
        )
        self.audit_events = Counter("audit_events_total", "Entries of the audit trail.", ["action"], registry=registry)
        self.tickets_unchecked = Counter(
            "tickets_accepted_unchecked_total", "Tickets accepted while Redis could not say if used.", registry=registry
        )

        self.pubsub_age = Gauge(
            "redis_pubsub_heartbeat_age_seconds",
            "How long ago the deafest worker last heard itself through Redis.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.db_connections = Gauge(
            "db_pool_connections",
            "Database connections of the pools.",
            ["state"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.db_limit = Gauge(
            "db_pool_limit", "Most database connections of the pools.", multiprocess_mode="livesum", registry=registry
        )
        self.db_timeouts = Counter(
            "db_pool_timeouts_total", "Times no database connection was free in time.", registry=registry
        )

        self.loop_lag = Gauge(
            "event_loop_lag_seconds",
            "How late the slowest event loop was at worst in the last 10 seconds.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.loop_blocked = Counter(
            "event_loop_blocked_total", "Times an event loop was held so long that it was named.", registry=registry
        )
        self.tasks = Gauge("app_tasks", "Background tasks that run.", multiprocess_mode="livesum", registry=registry)
        self.memory = Gauge(
            "app_resident_memory_bytes",
            "Resident memory of the workers.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.workers = Gauge("app_workers", "Workers that run.", multiprocess_mode="livesum", registry=registry)
        self.log_dropped = Counter(
            "log_lines_dropped_total", "Log lines that were dropped because nobody read them.", registry=registry
        )
        self.info = Gauge(
            "app_info", "What runs: always 1.", ["version", "python"], multiprocess_mode="max", registry=registry
        )
