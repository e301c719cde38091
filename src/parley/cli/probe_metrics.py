"""What a probe tells Prometheus: how its conversations went, on a port of its own. Converses with nobody."""

from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from parley.cli.errors import CommandError
from parley.cli.reasons import find_reason
from parley.cli.visitor import OUTCOMES, Verdict
from parley.core.clock import Clock

BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)


class ProbeMetrics:
    """The counts of one probe, in a registry of their own: nothing of the service's is told here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.registry = CollectorRegistry()
        self._conversations = Counter(
            "probe_conversations", "Conversations had, by how they went.", ["outcome"], registry=self.registry
        )
        for outcome in OUTCOMES:
            # A series that first appears with 1 has not grown, as Prometheus sees it.
            self._conversations.labels(outcome)
        self._mismatches = Counter("probe_integrity_mismatches", "Replies that arrived torn.", registry=self.registry)
        self._duration_s = Histogram(
            "probe_conversation_duration_seconds",
            "From signing in to the deleted conversation.",
            registry=self.registry,
            buckets=BUCKETS_S,
        )
        self._first_token_s = Histogram(
            "probe_first_token_seconds",
            "From the question to the first token, over WebSocket.",
            registry=self.registry,
            buckets=BUCKETS_S,
        )
        self._last_success = Gauge(
            "probe_last_success_timestamp_seconds",
            "When a conversation went well last; 0: never since the start.",
            registry=self.registry,
        )

    def count(self, verdict: Verdict) -> None:
        """Take a conversation into account."""
        self._conversations.labels(verdict.outcome).inc()
        self._mismatches.inc(verdict.mismatches)
        self._duration_s.observe(verdict.duration_s)
        if verdict.first_token_s is not None:
            self._first_token_s.observe(verdict.first_token_s)
        if verdict.is_ok:
            self._last_success.set(self._clock.now().timestamp())

    def listen(self, host: str, port: int) -> WSGIServer:
        """Answer scrapes from a thread, so that a conversation that hangs is seen."""
        try:
            server, _ = start_http_server(port, host, self.registry)
        except OSError as error:
            raise CommandError(f"cannot listen on {host}:{port}: {find_reason(error) or 'it failed'}") from None
        return server
