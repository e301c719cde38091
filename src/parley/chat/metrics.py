"""What the chat of a worker counts. What happens with every token is a tally: `gaps` and `rounds`."""

from prometheus_client import Counter, Gauge, Histogram

from parley.core.metrics import QUICK_S, STORE_S, Metrics, Names, Tally

FIRST_TOKEN_S = (0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30)
GAP_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
TURN_S = (0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
STOP_S = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2, 5)
BEHIND = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)
CODES = 40  # of failures: ours are some thirty, agents of one's own may name a few more


class ChatMetrics:
    """Those of conversations, replies and viewers."""

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self.limits_hit = metrics.limits_hit
        self.failure_codes = Names(learns=CODES)

        self.viewers = Gauge(
            "chat_viewers",
            "Viewers of conversations.",
            ["transport"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.joins = Counter("chat_joins_total", "Viewers that came.", ["transport"], registry=registry)
        self.join_duration = Histogram(
            "chat_join_duration_seconds",
            "Time until a viewer has its place and its first state.",
            ["transport"],
            buckets=QUICK_S,
            registry=registry,
        )
        self.resumes = Counter("chat_resumes_total", "Cursors brought by viewers.", ["result"], registry=registry)
        self.resume_gap = Histogram(
            "chat_resume_gap", "Changes that a resumed viewer had missed.", buckets=BEHIND, registry=registry
        )
        self.slow_drops = Counter(
            "chat_slow_consumer_drops_total", "Viewers dropped because they did not read.", registry=registry
        )

        self.live_replies = Gauge(
            "chat_live_replies", "Replies being written.", multiprocess_mode="livesum", registry=registry
        )
        self.turns = Counter("chat_turns_total", "Replies that ended.", ["outcome"], registry=registry)
        self.failures = Counter("chat_turn_failures_total", "Replies that failed.", ["code"], registry=registry)
        self.turn_duration = Histogram(
            "chat_turn_duration_seconds", "Time from a reply's claim to its end.", buckets=TURN_S, registry=registry
        )
        self.first_token = Histogram(
            "chat_time_to_first_token_seconds",
            "Time from a reply's first claim to its first text.",
            buckets=FIRST_TOKEN_S,
            registry=registry,
        )
        inter_token = Histogram(
            "chat_inter_token_seconds", "Time between pieces of a reply's text.", buckets=GAP_S, registry=registry
        )
        self.gaps = Tally(inter_token, GAP_S)
        self.stop_latency = Histogram(
            "chat_stop_latency_seconds",
            "Time from a writer's being told to stop to the stored end.",
            buckets=STOP_S,
            registry=registry,
        )
        self.takeovers = Counter("chat_takeovers_total", "Replies taken over from dead workers.", registry=registry)
        self.restarts = Counter("chat_restarts_total", "Replies that began anew.", ["reason"], registry=registry)
        self.mismatches = Counter(
            "chat_integrity_mismatches_total", "Texts that were not what their end says: must be 0.", registry=registry
        )
        self.duplicates = Counter(
            "chat_duplicates_refused_total", "Questions that were known by their client_id.", registry=registry
        )
        self.handoffs = Counter("chat_handoffs_total", "Conversations given to people.", ["reason"], registry=registry)
        self.admission_refused = Counter(
            "chat_admission_refused_total", "Questions and viewers refused for load.", ["reason"], registry=registry
        )

        append = Histogram(
            "redis_append_duration_seconds", "Time of one round of appends.", buckets=STORE_S, registry=registry
        )
        self.rounds = Tally(append, STORE_S)
        self.append_errors = Counter(
            "redis_append_errors_total", "Appends that Redis did not confirm.", registry=registry
        )
        self._begin_at_zero()

    def tell(self) -> None:
        """Hand on what was tallied: once a second."""
        self.gaps.tell()
        self.rounds.tell()

    def _begin_at_zero(self) -> None:
        """Show what may happen before it does: of a series that begins with its first event nobody sees that one."""
        for transport in ("ws", "sse"):
            self.viewers.labels(transport).set(0)
            self.joins.labels(transport)
            self.join_duration.labels(transport)
        for counter, values in (
            (self.resumes, ("continued", "reset", "refused")),
            (self.turns, ("complete", "stopped", "failed")),
            (self.restarts, ("takeover", "handover", "model")),
            (self.handoffs, ("assistant", "person")),
            (self.admission_refused, ("draining", "full", "backlog", "loop_lag", "sockets")),
            (self.limits_hit, ("sockets_per_user", "sockets_per_address")),
        ):
            for value in values:
                counter.labels(value)
