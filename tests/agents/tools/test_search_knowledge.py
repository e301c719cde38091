"""The search tool: finds what was shipped, tells people how much, and takes no nonsense."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from parley.agents.interface import Call
from parley.agents.tools.outcome import Ran, ToolContext
from parley.agents.tools.registry import Registry
from parley.agents.tools.search_knowledge import search_knowledge


@pytest.fixture
def run(registry_of: Callable[..., Registry], context: ToolContext) -> Callable[..., Any]:
    registry = registry_of(search_knowledge)

    async def search(**arguments: Any) -> Ran:
        return await registry.run(Call("c", "search_knowledge", json.dumps(arguments)), context)

    return search


async def test_articles_are_found_with_title_address_and_text(run: Callable[..., Any]) -> None:
    ran = await run(query="return a jacket", limit=2)

    assert ran.is_ok
    assert ran.summary == "Found 2 articles"
    assert ran.sources[0].id == "return-a-jacket"
    assert ran.sources[0].url.startswith("https://")
    assert "60 days" in ran.sources[0].text


async def test_nothing_found_is_no_fault(run: Callable[..., Any]) -> None:
    ran = await run(query="xylophone")

    assert ran.is_ok
    assert (ran.summary, ran.sources) == ("Found nothing", [])


@pytest.mark.parametrize(
    "arguments",
    [{}, {"query": ""}, {"query": "  "}, {"query": "a" * 501}, {"query": "a", "limit": 11}, {"query": None}],
)
async def test_a_search_for_nothing_or_too_much_is_a_mistake(
    run: Callable[..., Any], arguments: dict[str, Any]
) -> None:
    ran = await run(**arguments)

    assert not ran.is_ok
    assert "query" in ran.content or "limit" in ran.content


def test_it_is_public_and_may_be_repeated() -> None:
    assert search_knowledge.is_public
    assert search_knowledge.is_idempotent
    assert set(search_knowledge.parameters.json_schema["properties"]) == {"query", "limit"}
    assert search_knowledge.parameters.json_schema["required"] == ["query"]
