"""What the agents of a worker count: calls of models and of tools. Knows no prices and books nothing."""

from collections.abc import Iterable
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram

from parley.agents.clients.attempts import AttemptReport
from parley.agents.clients.circuit import State
from parley.agents.interface import Attempt
from parley.core.metrics import Metrics, Names

CALL_S = (0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
FIRST_TOKEN_S = (0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30)
TOOL_S = (0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
MODELS = 30  # besides the settings' one, those that admins name in agents
OUTCOMES = 30  # the codes of clients.port, and our own few
STATES: dict[State, int] = {"closed": 0, "half_open": 1, "open": 2}
NO_FAULT = frozenset({"ok", "cancelled", "budget_exceeded"})


class AgentMetrics:
    """Those of models and tools."""

    def __init__(self, metrics: Metrics, *, models: Iterable[str], tools: Iterable[str]) -> None:
        registry = metrics.registry
        # No client can name a model: what is learned comes from agents, which only admins write.
        self.models = Names(models, learns=MODELS)
        self.tools = Names(tools)
        self._outcomes = Names(NO_FAULT, learns=OUTCOMES)

        self.tool_calls = Counter(
            "chat_tool_calls_total", "Tool calls, by how they went.", ["tool", "outcome"], registry=registry
        )
        self.tool_duration = Histogram(
            "chat_tool_call_duration_seconds", "Time a tool call took.", ["tool"], buckets=TOOL_S, registry=registry
        )
        self.requests = Counter("llm_requests_total", "Calls of models.", ["model", "outcome"], registry=registry)
        self.duration = Histogram(
            "llm_request_duration_seconds",
            "Time a call of a model took, to its end.",
            ["model"],
            buckets=CALL_S,
            registry=registry,
        )
        self.first_token = Histogram(
            "llm_time_to_first_token_seconds",
            "Time from a call of a model to its first token.",
            ["model"],
            buckets=FIRST_TOKEN_S,
            registry=registry,
        )
        self.tokens = Counter("llm_tokens_total", "Tokens used.", ["model", "kind"], registry=registry)
        self.cost = Counter(
            "llm_cost_usd_total", "US dollars of calls with a known price.", ["model"], registry=registry
        )
        self.errors = Counter("llm_errors_total", "Calls of models that failed.", ["model", "error"], registry=registry)
        self.retries = Counter("llm_retries_total", "Calls repeated on the same model.", ["model"], registry=registry)
        self.fallbacks = Counter(
            "llm_fallbacks_total",
            "Answers begun by a model that was not the first choice.",
            ["model"],
            registry=registry,
        )
        self.circuit_state = Gauge(
            "llm_circuit_state",
            "The breaker of a model: 0 closed, 1 half open, 2 open.",
            ["model"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.budget_exhausted = Counter(
            "llm_budget_exhausted_total",
            "Calls refused or cut because a budget was used up.",
            ["scope"],
            registry=registry,
        )
        self.budget_exhausted.labels("user")

    def called(self, report: AttemptReport, booked: Attempt) -> None:
        """Count a call of a model that has ended."""
        model, outcome = self.models.of(report.model), self._outcomes.of(report.outcome)
        self.requests.labels(model, outcome).inc()
        self.duration.labels(model).observe(report.total_s)
        if report.first_token_s is not None:
            self.first_token.labels(model).observe(report.first_token_s)
        if report.outcome not in NO_FAULT:
            self.errors.labels(model, outcome).inc()
        self.tokens.labels(model, "input").inc(booked.prompt_tokens)
        self.tokens.labels(model, "output").inc(booked.completion_tokens)
        self.tokens.labels(model, "cached").inc(report.usage.cached_tokens if report.usage else 0)
        self.cost.labels(model).inc(booked.cost_usd or 0.0)

    def ran(self, tool: str, outcome: str, seconds: float) -> None:
        """Count a call of a tool that has ended."""
        name = self.tools.of(tool)
        self.tool_calls.labels(name, outcome).inc()
        self.tool_duration.labels(name).observe(seconds)

    def told(self, what: Literal["repeated", "fell_back"], model: str) -> None:
        """Count what stood between a question to a model and its answer."""
        counter = self.retries if what == "repeated" else self.fallbacks
        counter.labels(self.models.of(model)).inc()

    def stands(self, circuits: Iterable[tuple[str, State]]) -> None:
        """Show where the breakers are, by model; of several providers of one, the worst."""
        worst: dict[str, int] = {}
        for model, state in circuits:
            label = self.models.of(model)
            worst[label] = max(worst.get(label, 0), STATES[state])
        for label, state_number in worst.items():
            self.circuit_state.labels(label).set(state_number)
