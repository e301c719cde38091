"""Puts the agents of a worker together. Opens nothing: what it needs is open, and stays its owner's."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import random

from openai import AsyncOpenAI

from parley.agents.budgets import Budgets
from parley.agents.cache import ResponseCache
from parley.agents.calls import CallService
from parley.agents.clients.breaker import Breaker
from parley.agents.clients.fallback import Fallback
from parley.agents.clients.leases import Leases
from parley.agents.clients.openai import OpenAIClient
from parley.agents.clients.port import ModelClient
from parley.agents.definition import default_definition
from parley.agents.knowledge import load_samples
from parley.agents.lineup import MAIN, Lineup
from parley.agents.metering import Metered
from parley.agents.metrics import AgentMetrics
from parley.agents.prices import Prices
from parley.agents.prompts.rendering import read_prompt
from parley.agents.runner import Runner
from parley.agents.scripts import Scripts
from parley.agents.service import AgentService
from parley.agents.settings import AgentsSettings
from parley.agents.summaries import Summaries
from parley.agents.tariff import Tariff
from parley.agents.tools.catalogue import shipped_tools
from parley.agents.tools.outcome import Dependencies
from parley.agents.tools.registry import Registry
from parley.agents.traces import AgentTraces
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.instruments import Instruments
from parley.core.line import Line
from parley.core.tasks import Tasks


@dataclass(frozen=True, slots=True)
class AssembledAgents:
    """What the container hands on."""

    runner: Runner
    service: AgentService
    scripts: Scripts


def assemble_agents(
    *,
    settings: AgentsSettings,
    openai: AsyncOpenAI,
    line: Line,
    database: Database,
    calls: CallService,
    tasks: Tasks,
    clock: Clock,
    instruments: Instruments,
) -> AssembledAgents:
    """Wire models, tools and the books. Reads package data: for the start of the process.

    `calls` is closed by whoever opened it, after `tasks`: their last calls are to be stored too.
    """
    scripts = Scripts(line, clock, settings.shared_deadline_s)
    leases = Leases(scripts, tasks, settings, clock, random)
    tools = shipped_tools()
    metrics = AgentMetrics(instruments.metrics, models=[settings.name], tools=[tool.name for tool in tools])
    breaker = Breaker(scripts, settings, clock)
    fallback = Fallback(
        breaker=breaker,
        leases=leases,
        tasks=tasks,
        settings=settings,
        clock=clock,
        random=random,
        told=metrics.told,
    )
    prices = Prices(settings.prices_file, clock)
    addresses = _addresses(settings, openai)
    tariff = Tariff(prices, addresses)
    budgets = Budgets(scripts, tasks, settings, clock)
    service = AgentService(database, default_definition(), [tool.name for tool in tools], clock)
    models = Lineup(
        Metered(fallback, budgets, tariff, metrics),
        ResponseCache(scripts, tasks, settings),
        _clients(settings, openai, clock),
    )
    runner = Runner(
        models=models,
        tools=Registry.of(tools, Dependencies(load_samples(), clock)),
        find_agent=service.find_definition,
        clock=clock,
        configured_model=settings.name,
        price=tariff.price,
        record=calls.record,
        ran=metrics.ran,
        traces=AgentTraces(instruments.telemetry, addresses),
        older=Summaries(
            database=database,
            models=models,
            tasks=tasks,
            settings=settings,
            instructions=read_prompt("summary"),
            price=tariff.price,
            record=calls.record,
        ),
    )
    instruments.readings.step(lambda: metrics.stands((model, at) for (_, model), at in breaker.states().items()))
    tasks.spawn("load prices", prices.load())
    tasks.keep("renew leases", leases.renew)
    tasks.keep("keep budgets", budgets.keep)
    tasks.keep("book calls", calls.keep)
    return AssembledAgents(runner, service, scripts)


def _addresses(settings: AgentsSettings, openai: AsyncOpenAI) -> Mapping[str, str]:
    return {MAIN: str(openai.base_url), **{name: provider.base_url for name, provider in settings.providers.items()}}


def _clients(settings: AgentsSettings, openai: AsyncOpenAI, clock: Clock) -> Mapping[str, ModelClient]:
    clients = {MAIN: OpenAIClient(openai, settings, clock)}
    for name, provider in settings.providers.items():
        key = provider.api_key.get_secret_value() if provider.api_key else openai.api_key
        # The same connections and deadlines, another place and key.
        clients[name] = OpenAIClient(openai.with_options(base_url=provider.base_url, api_key=key), settings, clock)
    return clients
