"""Agents as admins see them: listed, read, written; and as the runner finds them, by name."""

from collections.abc import Collection
from uuid import UUID

import structlog
from pydantic import ValidationError

from parley.agents import repository
from parley.agents.callables import AgentError, find_callable
from parley.agents.definition import DEFAULT_NAME, AgentDefinition
from parley.agents.models import Agent, AgentVersion
from parley.agents.prompts.rendering import PromptError, check_prompt
from parley.agents.schemas import AgentCommand, AgentView, to_command, to_definition
from parley.core import audit
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.errors import NotFound, Unprocessable
from parley.core.schemas import Page

KNOWN_S = 1.0  # what other workers answer with after an edit; a query for each reply costs as much as its rows

log = structlog.get_logger(__name__)


class AgentService:
    """What can be done with agents. The default one exists from the first look on."""

    def __init__(self, database: Database, default: AgentDefinition, tools: Collection[str], clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[str, tuple[AgentDefinition, float]] = {}
        self._default = default
        self._tools = tools
        self._is_seeded = False

    async def list_agents(self, limit: int, after: UUID | None, before: UUID | None) -> Page[AgentView]:
        """Return a stretch of the agents, oldest first."""
        await self._seed()
        async with self._database.transaction() as db:
            rows = await repository.list_agents(db, limit + 1, after, before)
        more = len(rows) > limit
        kept = rows[-limit:] if before is not None else rows[:limit]
        views = [_view(agent, version) for agent, version in kept]
        return Page(
            data=views,
            first_id=views[0].id if views else None,
            last_id=views[-1].id if views else None,
            has_more=more,
        )

    async def get_agent(self, name: str) -> AgentView:
        """Return an agent at its newest version."""
        await self._seed()
        async with self._database.transaction() as db:
            found = await repository.find_agent(db, name)
        if found is None:
            raise NotFound
        return _view(*found)

    async def write_agent(self, name: str, command: AgentCommand, author: UUID) -> AgentView:
        """Make the next version of an agent, which is made where there is none of that name."""
        await self._check(command)
        await self._seed()
        async with self._database.transaction() as db:
            agent_id = await repository.insert_agent(db, name) or await repository.find_agent_id(db, name)
            if agent_id is None:
                raise NotFound
            made = await repository.add_version(db, agent_id, command.model_dump(), author)
            detail = {"name": name, "version": made.version}
            audit.record(db, "agent_written", actor_id=author, actor_role="admin", subject_id=agent_id, detail=detail)
            found = await repository.find_agent(db, name)
        self._known.pop(name, None)
        if found is None:
            raise NotFound
        return _view(*found)

    async def find_definition(self, name: str | None) -> AgentDefinition | None:
        """Return what the runner works with; without a name, the default agent. Raise AgentError for a broken row."""
        name = name or DEFAULT_NAME
        known = self._known.get(name)
        now = self._clock.monotonic()
        if known is not None:
            if known[1] > now:
                return known[0]
            self._known[name] = (known[0], now + KNOWN_S)  # for the others, while this one looks
        await self._seed()
        async with self._database.transaction() as db:
            found = await repository.find_agent(db, name)
        if found is None:
            self._known.pop(name, None)
            return None
        agent, version = found
        try:
            command = AgentCommand.model_validate(version.definition)
        except ValidationError as error:
            raise AgentError("is stored in a form that is not understood") from error
        definition = to_definition(agent.name, version.version, command)
        self._known[name] = (definition, self._clock.monotonic() + KNOWN_S)
        return definition

    async def _check(self, command: AgentCommand) -> None:
        """Refuse what would fail every reply."""
        if set(command.tools) - set(self._tools):
            raise Unprocessable(f"There are only these tools: {', '.join(sorted(self._tools))}.", param="tools")
        try:
            check_prompt(command.prompt)
        except PromptError as error:
            raise Unprocessable(f"The prompt cannot be filled: {error}.", param="prompt") from None
        if not command.kind:
            return
        try:
            await find_callable(command.kind)
        except AgentError as error:
            log.warning("agent_not_loaded", exc_info=True)  # the reason is the operator's to know
            raise Unprocessable(f"The kind {error}.", param="kind") from None

    async def _seed(self) -> None:
        """Insert the default agent where nobody has: its row, not the code, is what admins edit from then on."""
        if self._is_seeded:
            return
        async with self._database.transaction() as db:
            agent_id = await repository.insert_agent(db, self._default.name)
            if agent_id is not None:
                await repository.add_version(db, agent_id, to_command(self._default).model_dump(), None)
        self._is_seeded = True


def _view(agent: Agent, version: AgentVersion) -> AgentView:
    return AgentView(
        id=agent.id,
        name=agent.name,
        version=version.version,
        created_at=version.created_at,
        definition=AgentCommand.model_validate(version.definition),
    )
