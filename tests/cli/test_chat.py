"""Chatting from the command line with a service that runs."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.cli.conftest import Parley
from tests.conftest import Start
from tests.fixtures.guards import LoopGuard
from tests.fixtures.service import PASSWORD, Service

from parley.agents.demo.brain import reply
from parley.agents.demo.server import open_demo

QUESTION = "How do I return a jacket?"


@pytest_asyncio.fixture
async def running(start_on_socket: Start, loop_guard: LoopGuard) -> AsyncIterator[Service]:
    """A service with the demo model, on a socket."""
    with loop_guard.paused():
        async with open_demo(reply=reply) as url, start_on_socket(OPENAI_BASE_URL=url, OPENAI_API_KEY="k") as service:
            yield service


async def test_what_comes_from_a_pipe_is_answered_line_by_line(cold_parley: Parley, running: Service) -> None:
    said = await cold_parley("chat", "--url", running.base_url, stdin=f"{QUESTION}\n\n/regenerate\n/what\n")

    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[1:3] == [f"you: {QUESTION}", "Searching the help articles ..."]
    assert "return" in lines[3].lower()
    assert said.out.count("[1] Return a jacket") == 2
    assert lines[-1].startswith("/stop ends the answer")


async def test_a_conversation_of_an_account_is_gone_on_with(parley: Parley, running: Service) -> None:
    account = await running.register("ada@shop.example")
    made = await running.http.post("/chat/conversations", json={}, headers=account.headers)
    arguments = ("chat", "--url", running.base_url, "--email", "ada@shop.example", "--conversation", made.json()["id"])
    await parley(*arguments, stdin=f"{QUESTION}\n", PARLEY_PASSWORD=PASSWORD)
    again = await parley(*arguments, stdin="/quit\n", PARLEY_PASSWORD=PASSWORD)

    assert (again.code, again.err) == (0, "")


async def test_a_conversation_that_is_not_ones_own_is_one_line(parley: Parley, running: Service) -> None:
    refused = await parley("chat", "--url", running.base_url, "--conversation", "0199a1b2-0000-7000-8000-00000000000c")

    assert refused.code == 1
    assert refused.error


@pytest.mark.parametrize(
    ("url", "words"), [("http://127.0.0.1:1", "cannot be reached"), ("localhost", "the URL begins")]
)
async def test_a_service_that_is_away_is_one_line(parley: Parley, url: str, words: str) -> None:
    away = await parley("chat", "--url", url)

    assert away.code == 1
    assert words in away.error


async def test_a_wrong_password_is_one_line(parley: Parley, running: Service) -> None:
    wrong = await parley("chat", "--url", running.base_url, "--email", "eve@shop.example", PARLEY_PASSWORD="wrong")

    assert wrong.code == 1
    assert "password" in wrong.error
