"""The whole path of a reply: runner, lineup, budgets and cache on a real Redis, a provider that counts on sockets."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.agents.clients.provider import settings_of
from tests.agents.shared_state import Worker, open_worker
from tests.fixtures.guards import LoopGuard
from tests.fixtures.metrics import agent_metrics

from parley.agents.budgets import Budgets
from parley.agents.cache import ResponseCache
from parley.agents.clients.openai import OpenAIClient, open_openai
from parley.agents.clients.port import ModelRequest, Usage
from parley.agents.counting import count_messages, count_offers
from parley.agents.definition import AgentDefinition, AgentLimits
from parley.agents.demo import pieces
from parley.agents.demo.server import open_demo
from parley.agents.demo.traffic import Traffic
from parley.agents.interface import Attempt, Event, HistoryMessage, TextGrew, Turn, TurnUser
from parley.agents.lineup import MAIN, Lineup
from parley.agents.metering import Metered
from parley.agents.prices import Quote
from parley.agents.runner import Runner
from parley.agents.scripts import tagged
from parley.agents.tariff import Tariff
from parley.agents.tools.outcome import Dependencies
from parley.agents.tools.registry import Registry
from parley.core.clock import SystemClock
from parley.core.ids import new_id

ADA = TurnUser(UUID(int=3), "Ada", "user", is_guest=False)
DAY_ONLY = {
    "budget_tokens_per_minute": None,
    "budget_tokens_per_day": None,
    "budget_usd_per_minute": None,
    "budget_usd_per_day": None,
    "queue_s": 5.0,
    "concurrency": 400,
}


@dataclass
class Talker:
    """A provider that says as many words as the question asks for, a token each, and counts like a real one."""

    prompt_tokens: int = 0
    said_tokens: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def used_tokens(self) -> int:
        return self.prompt_tokens + self.said_tokens

    def reply(self, body: dict[str, Any]) -> Iterator[pieces.Piece]:
        self.asked.append({"max_tokens": body.get("max_tokens"), "messages": len(body["messages"])})
        prompt = count_messages(body["messages"]) + count_offers(body.get("tools", []))
        self.prompt_tokens += prompt
        wanted = int(body["messages"][-1]["content"].split()[-1])
        most = body.get("max_tokens") or wanted
        for _ in range(min(wanted, most)):
            self.said_tokens += 1
            yield pieces.Text(" ok")
        yield pieces.Finish("length" if most < wanted else "stop", pieces.Usage(prompt, min(wanted, most)))


class FixedTariff(Tariff):
    """Ten dollars for a million tokens of prompt, twenty for a million of answer; models named `odd` have no price."""

    def __init__(self) -> None:
        pass

    def price(self, provider: str, model: str, usage: Usage) -> float | None:
        return None if model == "odd" else (10 * usage.prompt_tokens + 20 * usage.completion_tokens) / 1_000_000

    def quote(self, provider: str, model: str, prompt_tokens: int) -> Quote | None:
        return None if model == "odd" else Quote(10 * prompt_tokens, 20_000_000)


@dataclass
class PaidDesk:
    """A running agent, its user's account, and what the provider saw."""

    runner: Runner
    lineup: Lineup
    budgets: Budgets
    worker: Worker
    talker: Talker
    traffic: Traffic
    attempts: list[Attempt]

    def turn(self, words: int, *, before: str = "", **changes: Any) -> Turn:
        history = [HistoryMessage("user", f"{before} Say {words}")]
        return Turn(**{"conversation_id": new_id(), "message_id": new_id(), "user": ADA, "history": history, **changes})

    async def ask(self, turn: Turn) -> list[Event]:
        async with self.runner.run(turn) as events, asyncio.timeout(30):
            return [event async for event in events]

    async def account(self) -> dict[str, tuple[int, int]]:
        """Return what Redis holds: used this day and held, each as tokens and micro-dollars."""
        kept = await self.worker.scripts.line.redis.hgetall(f"{tagged('budget', str(ADA.id))}:account")
        pairs = {name: kept.get(name.encode(), b"0 0").split() for name in ("day_used", "held")}
        return {name: (int(tokens), int(micro_usd)) for name, (tokens, micro_usd) in pairs.items()}

    async def settled(self) -> tuple[int, int]:
        """Return what is booked once nothing is held any more."""
        async with asyncio.timeout(2):
            while self.traffic.under_way or (account := await self.account())["held"] != (0, 0):
                await asyncio.sleep(0.005)
        return account["day_used"]

    @property
    def booked_tokens(self) -> int:
        return sum(attempt.prompt_tokens + attempt.completion_tokens for attempt in self.attempts)

    @property
    def booked_micro_usd(self) -> int:
        return sum(math.ceil(round((attempt.cost_usd or 0) * 1_000_000, 3)) for attempt in self.attempts)


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextGrew))


@asynccontextmanager
async def open_paid_desk(
    redis_url: str,
    guard: LoopGuard,
    *,
    pace_s: float = 0.0,
    max_tokens: int = 4096,
    caches: bool = False,
    provider: dict[str, Any] | None = None,
    **values: Any,
) -> AsyncIterator[PaidDesk]:
    """Open it with the bounds in `values`; there are no others."""
    clock, talker = SystemClock(), Talker()
    traffic, attempts = Traffic(clock), list[Attempt]()
    limits = AgentLimits(max_tokens=max_tokens)
    agent = AgentDefinition("support", 1, "You are a shop's assistant.", limits=limits, caches=caches)

    async def find(_: str | None) -> AgentDefinition:
        return agent

    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(open_demo(reply=talker.reply, traffic=traffic, pace_s=pace_s))
        worker = await stack.enter_async_context(open_worker(redis_url, guard, **{**DAY_ONLY, **values}))
        settings = settings_of(url, **{"first_token_s": 10.0, "silence_s": 10.0, "total_s": 30.0, **(provider or {})})
        with guard.paused():
            openai = open_openai(settings)
            stack.push_async_callback(openai.close)
            client = OpenAIClient(openai, settings, clock)
            async with client.stream(ModelRequest("m", [{"role": "user", "content": "Say 1"}])) as batches:
                assert [batch async for batch in batches]
            talker.asked.clear()
            talker.prompt_tokens = talker.said_tokens = 0
            budgets = Budgets(worker.scripts, worker.tasks, worker.settings, clock)
            cache = ResponseCache(worker.scripts, worker.tasks, worker.settings)
        worker.tasks.keep("keep budgets", budgets.keep)
        tariff = FixedTariff()
        lineup = Lineup(Metered(worker.fallback, budgets, tariff, agent_metrics()), cache, {MAIN: client})
        runner = Runner(
            models=lineup,
            tools=Registry.of([], Dependencies(None, clock)),  # type: ignore[arg-type]  # nobody searches here
            find_agent=find,
            clock=clock,
            configured_model="m",
            price=tariff.price,
            record=lambda _, attempt: attempts.append(attempt),
        )
        yield PaidDesk(runner, lineup, budgets, worker, talker, traffic, attempts)
