"""Asking from the command line: the demo model on a fresh clone, any provider, and every failure as one line."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.cli.conftest import Parley
from tests.fixtures.guards import LoopGuard
from tests.fixtures.service import Service

from parley.agents.demo.brain import reply
from parley.agents.demo.server import open_demo

QUESTION = "How do I return a jacket?"
NOBODY = "http://127.0.0.1:1/v1"


@pytest_asyncio.fixture
async def provider(loop_guard: LoopGuard) -> AsyncIterator[str]:
    """The base URL of a provider that runs scripts."""
    with loop_guard.paused():
        async with open_demo(reply=reply) as url:
            yield url


async def test_a_fresh_clone_answers_from_the_sample_articles_and_shows_the_tool(
    cold_parley: Parley, folder: Path
) -> None:
    asked = await cold_parley("ask", QUESTION)

    lines = asked.out.splitlines()
    assert (asked.code, asked.err) == (0, "")
    assert lines[0] == "support v1 on demo"
    assert lines[1].startswith("Searching the help articles: search_knowledge {")
    assert lines[2].startswith("  Found ")
    assert "return" in lines[3].lower()
    assert "[1]" in lines[3]
    assert lines[4].startswith("[1] Return a jacket")
    assert not (folder / "data").exists()


async def test_programs_get_a_line_of_json_for_each_event(parley: Parley) -> None:
    asked = await parley("ask", "--json", QUESTION)

    events = [json.loads(line) for line in asked.out.splitlines()]
    assert [event["event"] for event in events if event["event"] != "text_grew"] == [
        "started",
        "status_changed",
        "step_decided",
        "tool_called",
        "tool_finished",
        "sources_found",
        "step_finished",
        "status_changed",
        "finished",
    ]
    assert events[-1]["finish_reason"] == "stop"
    assert [attempt["outcome"] for attempt in events[-1]["attempts"]] == ["ok", "ok"]
    assert all(attempt["prompt_tokens"] > 0 for attempt in events[-1]["attempts"])


async def test_another_provider_and_model_are_used_as_they_are_named(parley: Parley, provider: str) -> None:
    asked = await parley("ask", QUESTION, "--model", "special", OPENAI_BASE_URL=provider)

    assert asked.out.startswith("support v1 on special\n")
    assert asked.code == 0


async def test_a_provider_that_is_away_is_one_line_and_exit_code_1(parley: Parley) -> None:
    asked = await parley("ask", QUESTION, OPENAI_BASE_URL=NOBODY, OPENAI_API_KEY="sk-canary")

    assert asked.code == 1
    assert asked.error == ("The assistant cannot be reached right now. (model_unreachable; parley models tells more)")


@pytest.mark.parametrize(
    ("script", "code"),
    [("status?status=401", "model_auth"), ("status?status=429", "model_busy"), ("bad-json", "model_garbled")],
)
async def test_a_provider_that_fails_is_one_line_with_its_name(
    parley: Parley, provider: str, script: str, code: str
) -> None:
    asked = await parley("ask", QUESTION, "--model", f"script-{script}", OPENAI_BASE_URL=provider)

    assert asked.code == 1
    assert f"({code};" in asked.error


async def test_a_model_cannot_drive_the_terminal(parley: Parley, provider: str) -> None:
    script = "script-text?text=%1b[31mred%1b]0;owned%07%0d"
    asked = await parley("ask", QUESTION, "--model", script, OPENAI_BASE_URL=provider)

    assert asked.code == 0
    assert "[31mred" in asked.out
    assert not set(asked.out) & set("\x1b\x07\r")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["  "], "the question is empty"),
        ([QUESTION, "--agent", "nobody"], "There is no such assistant. (agent_unknown; parley models tells more)"),
    ],
)
async def test_a_question_that_cannot_be_asked_is_one_line(parley: Parley, arguments: list[str], said: str) -> None:
    asked = await parley("ask", *arguments)

    assert (asked.code, asked.error) == (1, said)


async def test_an_agent_of_the_database_is_found_by_its_name(
    parley: Parley, service: Service, provider: str, stores: dict[str, str]
) -> None:
    admin = await service.with_role("admin")
    body = {"prompt": "Answer in one sentence.", "models": {"strong": "special"}}
    assert (await service.http.put("/agents/sales", json=body, headers=admin.headers)).status_code == 200

    asked = await parley("ask", QUESTION, "--agent", "sales", OPENAI_BASE_URL=provider, **stores)

    assert (asked.code, asked.err) == (0, "")
    assert asked.out.startswith("sales v1 on special\n")


async def test_a_database_that_is_away_or_empty_is_one_line(parley: Parley, empty_database_url: str) -> None:
    nowhere = "postgresql://nobody:nothing@127.0.0.1:1/parley"
    away = await parley("ask", QUESTION, "--agent", "sales", DATABASE_URL=nowhere)
    empty = await parley("ask", QUESTION, "--agent", "sales", DATABASE_URL=empty_database_url)

    assert away.error == "the database, where agents are, cannot be reached; see parley doctor"
    assert empty.error.endswith("run parley migrate")
    assert (away.code, empty.code) == (1, 1)


async def test_the_models_are_listed_with_what_their_provider_says(
    parley: Parley, cold_parley: Parley, provider: str
) -> None:
    fresh = await cold_parley("models")
    unlisted = await parley("models", OPENAI_BASE_URL=provider, PARLEY_MODEL_NAME="no-such-model-with-a-long-name")
    away = await parley("models", OPENAI_BASE_URL=NOBODY)

    assert (fresh.code, unlisted.code, away.code) == (0, 0, 1)
    assert fresh.out.startswith("ok   demo        the demo model (set OPENAI_API_KEY for a real one) (answers in ")
    assert unlisted.out.startswith(f"warn no-such-model-with-a-long-name {provider} answers in ")
    assert "does not list it" in unlisted.out
    assert away.out.startswith(f"fail gpt-5-mini  {NOBODY}: nobody listens there\n")
    assert "next: check OPENAI_API_KEY and OPENAI_BASE_URL" in away.out
