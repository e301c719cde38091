"""What admins are told of agents, and what they may set."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from parley.agents.definition import PYTHON, AgentDefinition, AgentLimits, AgentModels
from parley.core.schemas import Command, Moment, Schema, Text, one_line

AgentName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$", examples=["support"])]
ModelName = Annotated[str, Field(max_length=128), AfterValidator(one_line)]
Items = Annotated[list[Annotated[str, Field(max_length=128), AfterValidator(one_line)]], Field(max_length=32)]

_LIMITS = AgentLimits()


def _python_or_empty(kind: str) -> str:
    """Accept what the loader understands; what code may be loaded is the settings' business, not a request's."""
    if kind and not kind.startswith(PYTHON):
        raise ValueError(f"must be empty or begin with {PYTHON}")
    return kind


class ModelsCommand(Command):
    """Models by name; an empty one is the model of the settings."""

    cheap: ModelName = ""
    strong: ModelName = ""
    fallbacks: Items = Field(default_factory=list)


class LimitsCommand(Command):
    """Where a reply ends, whatever the model wants."""

    max_steps: int = Field(_LIMITS.max_steps, ge=0, le=32)
    max_calls: int = Field(_LIMITS.max_calls, ge=1, le=32)
    max_tokens: int = Field(_LIMITS.max_tokens, ge=16, le=65_536)
    context_tokens: int = Field(_LIMITS.context_tokens, ge=512, le=1_000_000)
    tool_deadline_s: float = Field(_LIMITS.tool_deadline_s, gt=0, le=300)
    reply_deadline_s: float = Field(_LIMITS.reply_deadline_s, gt=0, le=1800)


class AgentCommand(Command):
    """A whole definition: it becomes the next version."""

    prompt: Annotated[Text, Field(min_length=1, max_length=65_536)]
    models: ModelsCommand = ModelsCommand()
    tools: Items = Field(default_factory=list)
    facts: Annotated[list[Annotated[Text, Field(max_length=2000)]], Field(max_length=32, default_factory=list)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    limits: LimitsCommand = LimitsCommand()
    caches: bool = False
    kind: Annotated[str, Field(max_length=200), AfterValidator(_python_or_empty)] = ""


class AgentView(Schema):
    """An agent at one version."""

    id: UUID
    name: str
    version: int
    created_at: Moment
    definition: AgentCommand


def to_definition(name: str, version: int, command: AgentCommand) -> AgentDefinition:
    """Return what the runner works with."""
    return AgentDefinition(
        name=name,
        version=version,
        prompt=command.prompt,
        models=AgentModels(command.models.cheap, command.models.strong, tuple(command.models.fallbacks)),
        tools=tuple(command.tools),
        facts=tuple(command.facts),
        temperature=command.temperature,
        limits=AgentLimits(**command.limits.model_dump()),
        caches=command.caches,
        kind=command.kind,
    )


def to_command(definition: AgentDefinition) -> AgentCommand:
    """Return a definition as an admin would write it."""
    limits, models = definition.limits, definition.models
    return AgentCommand(
        prompt=definition.prompt,
        models=ModelsCommand(cheap=models.cheap, strong=models.strong, fallbacks=list(models.fallbacks)),
        tools=list(definition.tools),
        facts=list(definition.facts),
        temperature=definition.temperature,
        limits=LimitsCommand(**{name: getattr(limits, name) for name in LimitsCommand.model_fields}),
        caches=definition.caches,
        kind=definition.kind,
    )
