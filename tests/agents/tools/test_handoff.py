"""The tool that calls a person: it says so to the runner, and is neither shown nor repeated."""

import json
from collections.abc import Callable

from parley.agents.interface import Call
from parley.agents.tools.handoff import handoff_to_human
from parley.agents.tools.outcome import ToolContext
from parley.agents.tools.registry import Registry


async def test_a_handoff_is_told_to_the_runner(registry_of: Callable[..., Registry], context: ToolContext) -> None:
    registry = registry_of(handoff_to_human)
    call = Call("c", "handoff_to_human", json.dumps({"reason": "is rude"}))
    ran = await registry.run(call, context)

    assert ran.is_ok
    assert ran.is_handoff
    assert "rude" not in ran.content + ran.summary
    assert registry.shown_arguments(call) is None


async def test_without_a_reason_nobody_is_called(registry_of: Callable[..., Registry], context: ToolContext) -> None:
    ran = await registry_of(handoff_to_human).run(Call("c", "handoff_to_human", "{}"), context)

    assert not ran.is_ok
    assert not ran.is_handoff


def test_it_is_not_run_twice() -> None:
    assert not handoff_to_human.is_idempotent
    assert not handoff_to_human.is_public
