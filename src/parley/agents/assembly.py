"""Puts the agents of a worker together. Opens nothing: what it needs is open, and stays its owner's."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import random

from openai import AsyncOpenAI
from redis.asyncio import Redis

from parley.agents.clients.breaker import Breaker
from parley.agents.clients.fallback import Fallback
from parley.agents.clients.leases import Leases
from parley.agents.clients.openai import OpenAIClient
from parley.agents.clients.port import ModelClient, Usage
from parley.agents.definition import default_definition
from parley.agents.knowledge import load_samples
from parley.agents.lineup import MAIN, Lineup
from parley.agents.prices import Prices
from parley.agents.runner import Runner
from parley.agents.scripts import Scripts
from parley.agents.service import AgentService
from parley.agents.settings import AgentsSettings
from parley.agents.tools.catalogue import shipped_tools
from parley.agents.tools.outcome import Dependencies
from parley.agents.tools.registry import Registry
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.tasks import Tasks


@dataclass(frozen=True, slots=True)
class AssembledAgents:
    """What the container hands on."""

    runner: Runner
    service: AgentService
    scripts: Scripts


def assemble_agents(
    *, settings: AgentsSettings, openai: AsyncOpenAI, redis: Redis, database: Database, tasks: Tasks, clock: Clock
) -> AssembledAgents:
    """Wire models, tools and the books. Reads package data: for the start of the process."""
    scripts = Scripts(redis, clock, settings.shared_deadline_s)
    leases = Leases(scripts, tasks, settings, clock, random)
    fallback = Fallback(
        breaker=Breaker(scripts, settings, clock),
        leases=leases,
        tasks=tasks,
        settings=settings,
        clock=clock,
        random=random,
    )
    prices = Prices(settings.prices_file, clock)
    tools = shipped_tools()
    service = AgentService(database, default_definition(), [tool.name for tool in tools])

    def price(model: str, usage: Usage) -> float | None:
        cost = prices.cost_usd(model, usage, base_url=str(openai.base_url))
        return None if cost is None else float(cost)

    runner = Runner(
        models=Lineup(fallback, _clients(settings, openai, clock)),
        tools=Registry.of(tools, Dependencies(load_samples(), clock)),
        find_agent=service.find_definition,
        clock=clock,
        configured_model=settings.name,
        price=price,
    )
    tasks.spawn("load prices", prices.load())
    tasks.keep("renew leases", leases.renew)
    return AssembledAgents(runner, service, scripts)


def _clients(settings: AgentsSettings, openai: AsyncOpenAI, clock: Clock) -> Mapping[str, ModelClient]:
    clients = {MAIN: OpenAIClient(openai, settings, clock)}
    for name, provider in settings.providers.items():
        key = provider.api_key.get_secret_value() if provider.api_key else openai.api_key
        # The same connections and deadlines, another place and key.
        clients[name] = OpenAIClient(openai.with_options(base_url=provider.base_url, api_key=key), settings, clock)
    return clients
