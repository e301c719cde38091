"""`parley doctor`: looks at everything the service needs, each look with a deadline, and says what to do next."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import typer
from rich.console import Console

from parley.cli.checks import look_at_database, look_at_model, look_at_redis, look_at_schema, model_place
from parley.cli.errors import FAILED
from parley.cli.masks import place_of
from parley.cli.notes import note_on_stderr
from parley.cli.stores import open_stores
from parley.cli.surroundings import look_at_folder, look_at_port, look_at_settings
from parley.cli.verdicts import Verdict, look, show, summary
from parley.settings import Settings, SettingsError, load

ENGINES_DEADLINE_S = 40.0  # another command may hold them for a while, and a cluster may have to recover
# Besides the settings' own deadlines: connecting, asking and closing together.
SERVER_DEADLINE_S = 6.0
PLACE_DEADLINE_S = 3.0


def doctor() -> None:
    """Check everything the service needs, and say what to do next. Exit code 1 when something fails."""
    note_on_stderr()
    console = Console(highlight=False)
    verdicts = _verdicts()
    show(console, verdicts)
    console.print(summary(verdicts))
    if any(verdict.status == "fail" for verdict in verdicts):
        raise typer.Exit(FAILED)


def _verdicts() -> Sequence[Verdict]:
    try:
        settings = load(env_file=Path(".env"))
    except SettingsError as error:
        seen = f"{error} (nothing else was looked at)"
        return [Verdict("fail", "settings", seen, "correct it in the environment or in .env")]
    return asyncio.run(_examine(settings))


async def _examine(settings: Settings) -> Sequence[Verdict]:
    found = [*look_at_settings(settings)]
    async with AsyncExitStack() as stack:
        complete, problems = await _start_engines(settings, stack)
        groups = await asyncio.gather(
            look("data folder", "set PARLEY_DATA_DIR", look_at_folder(settings), PLACE_DEADLINE_S),
            _look_at_database(complete),
            _look_at_redis(complete),
            look(
                "model",
                "check OPENAI_API_KEY and OPENAI_BASE_URL",
                look_at_model(settings.agents),
                settings.agents.check_timeout_s,
                model_place(settings.agents),
            ),
            look("port", "check PARLEY_HOST", look_at_port(settings.server), PLACE_DEADLINE_S),
        )
    return [*found, *problems, *(verdict for group in groups for verdict in group)]


async def _start_engines(settings: Settings, stack: AsyncExitStack) -> tuple[Settings, Sequence[Verdict]]:
    """Return settings that name both stores, or those we have and why the engines are not there."""
    complete = settings

    async def start() -> Sequence[Verdict]:
        nonlocal complete
        complete = await stack.enter_async_context(open_stores(settings))
        return []

    step = "see the logs in the data folder, or set DATABASE_URL and REDIS_URL"
    problems = await look("engines", step, start(), ENGINES_DEADLINE_S)
    return complete, problems


async def _look_at_database(settings: Settings) -> Sequence[Verdict]:
    if settings.database.url is None:
        return []
    step, place = "start it, or correct DATABASE_URL", place_of(settings.database.url)
    found = await look("database", step, look_at_database(settings.database), SERVER_DEADLINE_S, place)
    if any(verdict.status == "fail" for verdict in found):
        return [*found, Verdict("warn", "migrations", "not known while the database is away")]
    step = "parley migrate"
    return [*found, *await look("migrations", step, look_at_schema(settings), SERVER_DEADLINE_S)]


async def _look_at_redis(settings: Settings) -> Sequence[Verdict]:
    if settings.redis.url is None:
        return []
    step, place = "start it, or correct REDIS_URL", place_of(settings.redis.url)
    return await look("redis", step, look_at_redis(settings.redis), SERVER_DEADLINE_S, place)
