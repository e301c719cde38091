"""`parley models`: which models are configured, and whether their provider answers and has them."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import typer
from openai import NotFoundError
from rich.console import Console

from parley.agents.clients.openai import ping
from parley.agents.definition import AgentDefinition, default_definition
from parley.cli.errors import FAILED
from parley.cli.notes import note_on_stderr
from parley.cli.provider import Provider, open_provider
from parley.cli.verdicts import Verdict, look, show
from parley.settings import load


def models() -> None:
    """List the models that are configured and ask their provider for each. Exit code 1 when one cannot be used."""
    note_on_stderr()
    verdicts = asyncio.run(_examine(default_definition()))
    show(Console(highlight=False), verdicts)
    if any(verdict.status == "fail" for verdict in verdicts):
        raise typer.Exit(FAILED)


async def _examine(agent: AgentDefinition) -> Sequence[Verdict]:
    settings = load(env_file=Path(".env")).agents
    async with open_provider(settings) as provider:
        # Without repeats, in their order: each is asked for once, whatever it is used for.
        names = dict.fromkeys(
            name or provider.settings.name
            for name in ("", agent.models.cheap, agent.models.strong, *agent.models.fallbacks)
        )
        step, deadline_s = "check OPENAI_API_KEY and OPENAI_BASE_URL", settings.check_timeout_s
        looks = (look(f"{name} ", step, _look_at(provider, name), deadline_s, provider.place) for name in names)
        return [verdict for found in await asyncio.gather(*looks) for verdict in found]


async def _look_at(provider: Provider, name: str) -> Sequence[Verdict]:
    began, subject = time.perf_counter(), f"{name} "  # a long name needs its gap too
    try:
        is_listed = await ping(provider.client, name)
    except NotFoundError:
        seen = f"{provider.place} lists no models"
        return [Verdict("warn", subject, seen, "see that OPENAI_BASE_URL ends as it should (/v1)")]
    took = f"answers in {(time.perf_counter() - began) * 1000:.0f} ms"
    if is_listed:
        return [Verdict("ok", subject, f"{provider.place} ({took})")]
    seen = f"{provider.place} {took} and does not list it"
    return [Verdict("warn", subject, seen, "set PARLEY_MODEL_NAME to a model of this provider")]
