"""Which model answers a turn, by rules that fit on one screen. Pure; any function of its shape can take their place."""

from collections.abc import Callable
from dataclasses import dataclass

from parley.agents.definition import AgentDefinition

LONG_CONTEXT_TOKENS = 4_000  # from here on, weaker models lose what stands in the middle
LONG_QUESTION_TOKENS = 120  # about a paragraph
STRONG, CHEAP = "strong", "cheap"


@dataclass(frozen=True, slots=True)
class TurnShape:
    """What the rules look at."""

    asked_for: str | None
    """A model by name, or `strong` or `cheap`."""
    question_tokens: int
    context_tokens: int
    has_steps: bool
    """Whether tools were at work in this reply or the turn before it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The model, and the reason for events and metrics."""

    model: str
    reason: str


Choose = Callable[[AgentDefinition, TurnShape, str], Choice]


def choose_model(agent: AgentDefinition, turn: TurnShape, configured: str) -> Choice:
    """Choose by the first rule that fits; `configured` is the model of the settings."""
    strong = agent.models.strong or configured
    cheap = agent.models.cheap or strong
    if turn.asked_for:
        return Choice({STRONG: strong, CHEAP: cheap}.get(turn.asked_for, turn.asked_for), "asked_for")
    rules = (
        (cheap == strong, strong, "only_model"),
        (turn.has_steps, strong, "tools_at_work"),
        (turn.context_tokens > LONG_CONTEXT_TOKENS, strong, "long_context"),
        (turn.question_tokens > LONG_QUESTION_TOKENS, strong, "long_question"),
        (True, cheap, "short_and_simple"),
    )
    return next(Choice(model, reason) for fits, model, reason in rules if fits)
