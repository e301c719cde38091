"""`parley ask`: one question to an agent, its answer as it grows. Keeps no conversation.

Needs no database, except to find an agent by its name where `DATABASE_URL` is set.
"""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from parley.agents.clients.openai import OpenAIClient
from parley.agents.definition import AgentDefinition, default_definition
from parley.agents.direct import Direct
from parley.agents.interface import Failed, HistoryMessage, Turn, TurnUser
from parley.agents.knowledge import load_samples
from parley.agents.runner import FindAgent, Runner
from parley.agents.service import AgentService
from parley.agents.tools.catalogue import shipped_tools
from parley.agents.tools.outcome import Dependencies
from parley.agents.tools.registry import Registry
from parley.cli.errors import CommandError
from parley.cli.notes import note_on_stderr
from parley.cli.provider import open_provider
from parley.cli.schema import compare_schema
from parley.cli.transcript import Lines, Transcript
from parley.core.clock import SystemClock
from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable
from parley.core.ids import new_id
from parley.core.schemas import storable
from parley.settings import Settings, load

PACE_S = 0.03  # of the demo model: about as fast as a hosted model talks


def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    agent: Annotated[str | None, typer.Option(help="Name of the agent that answers.")] = None,
    model: Annotated[str | None, typer.Option(help="Model that answers, or `strong` or `cheap`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
) -> None:
    """Ask the agent a question and watch the answer grow."""
    note_on_stderr()
    shown = Lines() if as_json else Transcript()
    failed = asyncio.run(_ask(_turn(question, agent, model), shown))
    if failed is not None:
        raise CommandError(f"{failed.message} ({failed.code}; parley models tells more)")


def _turn(question: str, agent: str | None, model: str | None) -> Turn:
    try:
        question = storable(question).strip()
    except ValueError as error:
        raise CommandError(f"the question {error}") from None
    if not question:
        raise CommandError("the question is empty")
    user = TurnUser(new_id(), "", "user", is_guest=True)
    return Turn(new_id(), new_id(), user, [HistoryMessage("user", question)], agent=agent, model=model)


async def _ask(turn: Turn, shown: Lines | Transcript) -> Failed | None:
    every, clock, knowledge = load(env_file=Path(".env")), SystemClock(), load_samples()
    settings = every.agents
    async with open_provider(settings, pace_s=0.0 if isinstance(shown, Lines) else PACE_S) as provider:
        runner = Runner(
            models=Direct(OpenAIClient(provider.client, provider.settings, clock), "configured", clock),
            tools=Registry.of(shipped_tools(), Dependencies(knowledge, clock)),
            find_agent=_find_in(every),
            clock=clock,
            configured_model=provider.settings.name,
        )
        failed = None
        async with runner.run(turn) as events:
            async for event in events:
                shown.show(event)
                failed = event if isinstance(event, Failed) else failed
    shown.end()
    return failed


def _find_in(settings: Settings) -> FindAgent:
    """Return how agents are found: in the database where one is named, else there is only the shipped one."""
    shipped = default_definition()

    async def find(name: str | None) -> AgentDefinition | None:
        if name is None or settings.database.url is None:
            return shipped if name in {None, shipped.name} else None
        database = Database(settings.database)
        try:
            schema = await compare_schema(database)
            if schema.is_behind:
                raise CommandError(f"{schema}: run parley migrate")
            return await AgentService(database, shipped, (), SystemClock()).find_definition(name)
        except DatabaseUnavailable:
            raise CommandError("the database, where agents are, cannot be reached; see parley doctor") from None
        finally:
            await database.close()

    return find
