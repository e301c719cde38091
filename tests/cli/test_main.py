"""The frame around all commands: light until one is chosen, and words instead of tracebacks."""

import asyncio
import importlib
import sys

import pytest
from tests.cli.conftest import Parley

import parley as package
from parley.cli.errors import SENTENCES, find_sentence
from parley.cli.lazy import COMMANDS, load_command
from parley.cli.reasons import _NAMES as REASON_NAMES

HEAVY = ("fastapi", "starlette", "sqlalchemy", "alembic", "redis", "openai", "httpx", "asyncpg")
LOADED = f"""
import sys
from parley.cli.main import app
try:
    app([*sys.argv[1:]])
except SystemExit:
    pass
print("loaded:", *(name for name in {HEAVY} if name in sys.modules))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["--version"]])
async def test_help_version_and_the_parent_of_serve_import_nothing_heavy(arguments: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LOADED, *arguments), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()

    assert out.decode().splitlines()[-1].strip() == "loaded:"


async def test_the_version_is_said(cold_parley: Parley) -> None:
    assert (await cold_parley("--version")).out == f"parley {package.__version__}\n"


@pytest.mark.parametrize("arguments", [("config", "--json"), ("migrat",)])
async def test_a_command_begun_warm_is_the_same_as_a_cold_one(
    parley: Parley, cold_parley: Parley, arguments: tuple[str, ...]
) -> None:
    await parley(*arguments, PARLEY_LOG_LEVEL="error", PARLEY_WORKERS="7", PARLEY_UNKNOWN="1")
    warm, cold = await asyncio.gather(*(run(*arguments, PARLEY_LOG_LEVEL="debug") for run in (parley, cold_parley)))

    assert warm == cold


async def test_help_lists_every_command(parley: Parley) -> None:
    shown = (await parley("--help")).out

    assert all(f" {name} " in shown for name in ("serve", *COMMANDS))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name: str) -> None:
    text = (load_command(name).help or "").split("\n\n")[0].replace("\n", " ")

    assert text.startswith(COMMANDS[name].summary)


@pytest.mark.parametrize("name", [*SENTENCES, *REASON_NAMES])
def test_errors_that_are_known_by_name_exist(name: str) -> None:
    module, _, kind = name.rpartition(".")

    assert issubclass(getattr(importlib.import_module(module), kind), Exception)


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    assert find_sentence(KeyError("x")) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["migrat"], "No such command 'migrat'. Did you mean 'migrate'? (try: parley --help)"),
        (["migrate", "--now"], "No such option: --now (try: parley migrate --help)"),
        (["users", "disable"], "Missing argument 'EMAIL'. (try: parley users disable --help)"),
    ],
)
async def test_a_wrong_call_is_one_line_and_exit_code_2(parley: Parley, arguments: list[str], said: str) -> None:
    outcome = await parley(*arguments)

    assert (outcome.code, outcome.error.replace("python -m parley", "parley")) == (2, said)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"DATABASE_URL": "postgresql://ada:canary@127.0.0.1:1/shop"}, "nobody listens there"),
        ({"DATABASE_URL": "postgresql://ada:canary/x@db/shop:y"}, "DATABASE_URL must look like"),
        ({"DATABASE_URL": "postgresql://ada:canary@db:port/shop"}, "DATABASE_URL must look like"),
        ({"DATABASE_URL": "mysql://ada:canary@db/shop"}, "DATABASE_URL must look like"),
        ({"DATABASE_URL": "canary"}, "DATABASE_URL must look like"),
        ({"DATABASE_URL": "postgresql://ada:canary@127.0.0.1:1/shop?sslmode=require"}, "nobody listens there"),
        ({"REDIS_URL": "canary"}, "REDIS_URL must look like"),
        ({"PARLEY_PORT": "canary"}, "PARLEY_PORT: "),
        ({"PARLEY_ENVIRONMENT": "production"}, "in production "),
    ],
)
async def test_unusable_settings_are_one_line_without_their_value(
    parley: Parley, database_url: str, redis_url: str, variables: dict[str, str], said: str
) -> None:
    outcome = await parley("users", "list", **{"DATABASE_URL": database_url, "REDIS_URL": redis_url, **variables})

    assert outcome.code == 1
    assert said in outcome.error
    assert "canary" not in outcome.err
