"""The clock tool: the time of a place, and a mistake for a place that is none."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from parley.agents.interface import Call
from parley.agents.tools.current_time import current_time
from parley.agents.tools.outcome import Ran, ToolContext
from parley.agents.tools.registry import Registry


@pytest.fixture
def run(registry_of: Callable[..., Registry], context: ToolContext) -> Callable[..., Any]:
    registry = registry_of(current_time)

    async def ask(**arguments: Any) -> Ran:
        return await registry.run(Call("c", "current_time", json.dumps(arguments)), context)

    return ask


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "It is Friday, 2 January 2026, 23:30 (UTC)."),
        ({"timezone": "utc"}, "It is Friday, 2 January 2026, 23:30 (UTC)."),
        ({"timezone": "Europe/Berlin"}, "It is Saturday, 3 January 2026, 00:30 (Europe/Berlin, UTC+01:00)."),
        ({"timezone": "America/New_York"}, "It is Friday, 2 January 2026, 18:30 (America/New_York, UTC-05:00)."),
        ({"timezone": "Asia/Kolkata"}, "It is Saturday, 3 January 2026, 05:00 (Asia/Kolkata, UTC+05:30)."),
    ],
)
async def test_the_time_of_a_place_is_told(run: Callable[..., Any], arguments: dict[str, str], sentence: str) -> None:
    ran = await run(**arguments)

    assert (ran.is_ok, ran.content) == (True, sentence)
    assert ":" in ran.summary


@pytest.mark.parametrize(
    "zone",
    [
        *("", "Mars/Base", "Berlin", "Europe", "Europe/", "Europe//Berlin", "Europe/Berlin\n", "\u0395urope/Berlin"),
        *("../../etc/passwd", "/etc/localtime", ".", "C:\\", "a/b/c/d", "zone.tab", "tzdata.zi", "x" * 64, "x" * 1_000),
    ],
)
async def test_a_place_that_is_none_is_a_mistake(
    run: Callable[..., Any], zone: str, logs: list[dict[str, Any]]
) -> None:
    ran = await run(timezone=zone)

    assert not ran.is_ok
    assert "timezone" in ran.content
    assert logs == []
