"""The model's provider for a command that runs for a moment: the one of the settings, else the demo model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from openai import AsyncOpenAI

from parley.agents.clients.openai import open_openai
from parley.agents.demo.brain import reply
from parley.agents.demo.server import MODEL, open_demo
from parley.agents.settings import AgentsSettings
from parley.cli.checks import model_place

DEMO_PLACE = "the demo model (set OPENAI_API_KEY for a real one)"


@dataclass(frozen=True, slots=True)
class Provider:
    """Where models are asked, by settings that name it."""

    client: AsyncOpenAI
    settings: AgentsSettings
    place: str


@asynccontextmanager
async def open_provider(settings: AgentsSettings, *, pace_s: float = 0.0) -> AsyncIterator[Provider]:
    """Yield the provider; the demo model runs in this process, `pace_s` between its words."""
    if not settings.is_demo:
        async with open_openai(settings) as client:
            yield Provider(client, settings, model_place(settings))
        return
    async with open_demo(reply=reply, pace_s=pace_s) as url:
        settings = settings.model_copy(update={"base_url": url, "name": MODEL})
        async with open_openai(settings) as client:
            yield Provider(client, settings, DEMO_PLACE)
