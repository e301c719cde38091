"""Which model answers which turn, and why."""

from typing import Any

import pytest

from parley.agents.chooser import Choice, TurnShape, choose_model
from parley.agents.definition import AgentDefinition, AgentModels

BOTH = AgentModels(cheap="small", strong="large", fallbacks=("other",))


def choose(models: AgentModels = BOTH, **shape: Any) -> Choice:
    turn = {"asked_for": None, "question_tokens": 10, "context_tokens": 100, "has_steps": False, **shape}
    return choose_model(AgentDefinition("a", 1, "", models), TurnShape(**turn), "configured")


@pytest.mark.parametrize(
    ("shape", "model", "reason"),
    [
        ({}, "small", "short_and_simple"),
        ({"question_tokens": 500}, "large", "long_question"),
        ({"context_tokens": 9_000}, "large", "long_context"),
        ({"has_steps": True}, "large", "tools_at_work"),
        ({"asked_for": "strong"}, "large", "asked_for"),
        ({"asked_for": "cheap", "has_steps": True}, "small", "asked_for"),
        ({"asked_for": "special"}, "special", "asked_for"),
        ({"asked_for": ""}, "small", "short_and_simple"),
    ],
)
def test_the_first_rule_that_fits_decides(shape: dict[str, Any], model: str, reason: str) -> None:
    assert choose(**shape) == Choice(model, reason)


@pytest.mark.parametrize(
    ("models", "model"),
    [(AgentModels(), "configured"), (AgentModels(strong="large"), "large"), (AgentModels("same", "same"), "same")],
)
def test_an_agent_with_one_model_uses_it(models: AgentModels, model: str) -> None:
    assert choose(models, has_steps=True) == Choice(model, "only_model")


def test_an_agent_with_a_cheap_model_falls_to_the_configured_one_for_more() -> None:
    assert choose(AgentModels(cheap="small"), has_steps=True).model == "configured"
