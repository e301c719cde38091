"""What an agent is: its prompt, models, tools and limits. Data only; where agents are stored is not decided here."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from parley.agents.prompts.rendering import read_prompt

PYTHON = "python:"
DEFAULT_NAME = "support"


@dataclass(frozen=True, slots=True)
class AgentModels:
    """By name; an empty one is the model of the settings."""

    cheap: str = ""
    strong: str = ""
    fallbacks: Sequence[str] = ()
    """Tried in this order when the chosen one fails."""


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """Where a reply ends, whatever the model wants."""

    max_steps: int = 6
    """Rounds with tools; one more may follow, to answer."""
    max_calls: int = 8
    """Tool calls of one round."""
    max_tokens: int = 2048
    """Of the answer of one round."""
    context_tokens: int = 16_000
    """Of the prompt of one round, the tools included."""
    tool_deadline_s: float = 20.0
    reply_deadline_s: float = 300.0
    """When no further round begins."""


@dataclass(frozen=True, slots=True)
class AgentDefinition:
    """One version of an agent."""

    name: str
    version: int
    prompt: str
    models: AgentModels = field(default_factory=AgentModels)
    tools: Sequence[str] = ()
    facts: Sequence[str] = ()
    """Always in the context, whatever else must go."""
    temperature: float | None = None
    """None leaves it to the provider: several models refuse any other."""
    limits: AgentLimits = field(default_factory=AgentLimits)
    caches: bool = False
    """Whether exactly the same request gets the answer it got before."""
    kind: str = ""
    """Empty, or `python:package.module:function`: an async generator that takes the turn and yields our events."""


def default_definition() -> AgentDefinition:
    """Return the agent of a fresh installation. Reads package data: for the start of the process."""
    return AgentDefinition(
        name=DEFAULT_NAME,
        version=1,
        prompt=read_prompt("support_desk"),
        tools=("search_knowledge", "current_time", "handoff_to_human"),
    )
