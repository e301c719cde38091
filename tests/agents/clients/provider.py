"""A scripted provider in the test's own loop, and calls of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from openai import AsyncOpenAI
from tests.fixtures.guards import LoopGuard

from parley.agents.clients.openai import OpenAIClient, open_openai
from parley.agents.clients.port import ModelError, ModelEvent, ModelRequest, TextDelta
from parley.agents.demo.pieces import Finish, Piece, Text, Usage
from parley.agents.demo.server import open_demo
from parley.agents.demo.traffic import Call, Traffic
from parley.agents.settings import AgentsSettings
from parley.core.clock import SystemClock

SETTLED_S = 2.0


def say_hello(_: dict[str, Any]) -> Iterator[Piece]:
    """Answer the same to everything."""
    yield Text("Hello")
    yield Text(" there.")
    yield Finish("stop", Usage(3, 2))


def asked(**script: Any) -> ModelRequest:
    """Return a request for a scripted answer; without a script, for an ordinary one."""
    headers = {"x-demo-script": json.dumps(script)} if script else {}
    return ModelRequest("demo", [{"role": "user", "content": "Hello?"}], headers=headers)


@dataclass
class Heard:
    """What one call brought."""

    events: list[ModelEvent] = field(default_factory=list)
    batches: int = 0
    error: ModelError | None = None
    took_s: float = 0.0

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def code(self) -> str | None:
        return self.error.code if self.error else None


@dataclass
class Provider:
    """The scripted provider and a client of it."""

    url: str
    traffic: Traffic
    openai: AsyncOpenAI
    client: OpenAIClient

    async def hear(self, request: ModelRequest) -> Heard:
        heard = Heard()
        began = asyncio.get_running_loop().time()
        try:
            async with self.client.stream(request) as batches:
                async for batch in batches:
                    assert batch
                    heard.batches += 1
                    heard.events += batch
        except ModelError as error:
            heard.error = error
        heard.took_s = asyncio.get_running_loop().time() - began
        return heard

    @property
    def newest(self) -> Call:
        return self.traffic.calls[-1]

    async def settle(self) -> None:
        """Wait until no call is under way."""
        async with asyncio.timeout(SETTLED_S):
            while self.traffic.under_way:
                await asyncio.sleep(0.002)


def settings_of(url: str, **changed: Any) -> AgentsSettings:
    """Return settings with deadlines short enough to be waited for."""
    usual = {"first_token_s": 0.5, "silence_s": 0.3, "total_s": 5.0, "connect_timeout_s": 0.5}
    return AgentsSettings(base_url=url, **{**usual, **changed})


@asynccontextmanager
async def open_provider(guard: LoopGuard, **changed: Any) -> AsyncIterator[Provider]:
    """Run a provider and a client; all connections must be gone when the client is."""
    clock = SystemClock()
    traffic = Traffic(clock)
    async with open_demo(reply=say_hello, traffic=traffic) as url:
        settings = settings_of(url, **changed)
        # A client and its first call read certificates and import much, once a process.
        with guard.paused():
            openai = open_openai(settings)
            provider = Provider(url, traffic, openai, OpenAIClient(openai, settings, clock))
            await provider.hear(asked())
        try:
            yield provider
        finally:
            await openai.close()
        async with asyncio.timeout(SETTLED_S):
            while traffic.open:
                await asyncio.sleep(0.002)
