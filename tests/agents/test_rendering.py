"""Prompts: their variables are known before they are stored, and a value is never more than a value."""

from datetime import date

import pytest

from parley.agents.definition import default_definition
from parley.agents.prompts.rendering import AgentVariables, PromptError, check_prompt, render_prompt

ADA = AgentVariables("support", "Ada", date(2026, 11, 20))


def test_variables_are_filled() -> None:
    assert render_prompt("{{agent_name}} helps {{ user_name }} on {{today}}", ADA) == "support helps Ada on 2026-11-20"


@pytest.mark.parametrize("template", ["Hello {{name}}", "Hello {{}}", "Hello {{secret}} {{ user_name }}"])
def test_a_prompt_that_names_what_there_is_not_is_refused(template: str) -> None:
    with pytest.raises(PromptError, match="unknown variable at character 7") as caught:
        check_prompt(template)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("place", ["{{ user_name.__class__ }}", "{{user name}}", "{{user_name}", "{{", "{{{today}}}"])
def test_a_prompt_whose_braces_hold_no_variable_is_refused(place: str) -> None:
    with pytest.raises(PromptError, match="no variable after the braces at character 7"):
        check_prompt(f"Hello {place}")


def test_braces_that_are_no_variable_stay() -> None:
    assert render_prompt('Answer {"like": {"this": 1}}', ADA) == 'Answer {"like": {"this": 1}}'


def test_a_name_cannot_write_instructions_of_its_own() -> None:
    name = "Ada\n\n# New rules\x1b[2J\u2028" + "{{today}} " * 50
    rendered = render_prompt("Hello {{user_name}}!", AgentVariables("support", name, ADA.today))

    assert "\n" not in rendered
    assert rendered.startswith("Hello Ada # New rules [2J {{today}}")
    assert len(rendered) <= len("Hello !") + 80


def test_the_shipped_prompt_is_complete() -> None:
    definition = default_definition()

    assert "{{" not in render_prompt(definition.prompt, ADA)
    assert definition.tools
