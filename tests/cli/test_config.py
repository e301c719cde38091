"""Settings from the command line: all of them, where they came from, and never a secret."""

import json
from pathlib import Path

from tests.cli.conftest import Parley

from parley.cli.masks import mask_url
from parley.settings import every_setting

CANARY = "canary-0123456789-abcdefghijklmnop"
SECRETS = {
    "DATABASE_URL": f"postgresql://ada:{CANARY}@db.example:5432/shop?sslpassword={CANARY}",
    "REDIS_URL": f"rediss://:{CANARY}@cache.example:6379/0",
    "OPENAI_API_KEY": f"sk-{CANARY}",
    "OPENAI_BASE_URL": f"https://me:{CANARY}@models.example/v1?key={CANARY}",
    "PARLEY_AUTH_SECRETS": f"{CANARY},{CANARY}-older",
    "PARLEY_OPS_TOKEN": CANARY,
    "PARLEY_UNKNOWN_TOKEN": CANARY,
}


async def test_every_setting_is_shown_and_no_secret_is(parley: Parley) -> None:
    shown = await parley("config", **SECRETS)
    as_json = await parley("config", "--json", **SECRETS)

    assert (shown.code, as_json.code) == (0, 0)
    for outcome in (shown, as_json):
        assert CANARY not in outcome.out + outcome.err
        assert "warning: unknown setting PARLEY_UNKNOWN_TOKEN" in outcome.err
    assert "postgresql://ada:***@db.example:5432/shop?sslpassword=***" in shown.out
    assert "rediss://***@cache.example:6379/0" in shown.out.replace("rediss://:***", "rediss://***")
    names = {setting.env_names[0] for setting in every_setting()}
    assert {line.split("\t")[0] for line in shown.out.splitlines()} == names
    assert json.loads(as_json.out).keys() == names


async def test_each_setting_says_where_it_came_from(cold_parley: Parley, folder: Path) -> None:
    (folder / ".env").write_text("PARLEY_WORKERS=3\nPARLEY_LOG_LEVEL=debug\nREDIS_URL=redis://cache/1\n")

    shown = json.loads((await cold_parley("config", "--json", PARLEY_LOG_LEVEL="warning")).out)

    assert shown["PARLEY_WORKERS"] == {"value": 3, "source": ".env"}
    assert shown["PARLEY_LOG_LEVEL"] == {"value": "warning", "source": "environment"}
    assert shown["PARLEY_REDIS_URL"] == {"value": "redis://cache/1", "source": ".env (REDIS_URL)"}
    assert shown["PARLEY_HOST"] == {"value": "127.0.0.1", "source": "default"}


async def test_a_value_that_cannot_be_is_one_line_without_the_value(parley: Parley) -> None:
    refused = await parley("config", PARLEY_AUTH_SECRETS="canary")

    assert refused.code == 1
    assert refused.error.startswith("PARLEY_AUTH_SECRETS: ")
    assert "canary" not in refused.err


def test_passwords_stay_hidden_in_urls_that_are_written_wrongly() -> None:
    wrong = (
        "postgresql://ada:ca/nary@db/shop",
        "postgresql://ada:ca?nary@db/shop",
        "postgresql://ada:ca#nary@db/shop",
        "postgresql://ada:ca@nary@db/shop",
        "redis://nary@cache",
        "redis://cache?password=nary",
        "ada:nary@db/shop",
        "nary",
    )
    assert all("nary" not in mask_url(url) for url in wrong)


def test_what_is_not_secret_in_a_url_is_shown() -> None:
    assert mask_url("unix:///tmp/valkey.sock?db=2") == "unix:///tmp/valkey.sock?db=2"
    assert mask_url("postgresql://ada@/shop?host=/tmp/x") == "postgresql://***@/shop?host=/tmp/x"
