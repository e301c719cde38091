"""The client module alone, as README shows it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.browser.hosts import HostPages

pytestmark = pytest.mark.timeout(120)
README = Path(__file__).parents[2] / "README.md"


def test_the_example_of_the_readme(open_page: Callable[..., Any], hosts: HostPages) -> None:
    """A page of its own making, with nothing of the widget but the client: what README says works."""
    example = re.search(r"```html\n(<pre id.*?)```", README.read_text(), re.DOTALL)
    assert example is not None
    hosts.put("/own", example[1].replace("{", "{{").replace("}", "}}").replace("https://chat.example", "{service}"))
    page = open_page(hosts.url("/own"))
    page.get_by_role("textbox").fill("What is your refund policy?")
    page.keyboard.press("Enter")
    page.locator(
        "#log",
        has_text=re.compile(r"user: What is your refund policy\? \(complete\)\s+assistant: .*\(complete\)", re.DOTALL),
    ).wait_for()
