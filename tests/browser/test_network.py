"""The widget where networks are in the way: sockets that do not get through, servers that go silent."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from tests.browser.doing import ANSWER, answered, ask, whole
from tests.story.chatting import said, tokens

pytestmark = pytest.mark.timeout(180)
SOCKETS = re.compile("/chat/ws/")


def refuse(socket: Any) -> None:
    """As a proxy that knows no upgrades."""
    socket.close()


def swallow(_: Any) -> None:
    """As a proxy that takes the upgrade and passes nothing on."""


@pytest.mark.parametrize("proxy", [refuse, swallow])
def test_blocked_sockets(
    open_page: Callable[..., Any], agent: Callable[..., str], proxy: Callable[[Any], None]
) -> None:
    """Where no socket gets through, a whole chat goes over streams: ask, stop, answer again, rate."""
    page = open_page("about:blank")
    page.route_web_socket(SOCKETS, proxy)
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url) if "/stream?" in request.url else None)
    page.goto(page.service + f"/chat?agent={agent(tokens(60))}")
    ask(page, "Hello?")
    whole(page, said(60))
    page.locator("header.is-online").wait_for()
    page.get_by_role("button", name="Answer again").click()
    page.locator("article.live.assistant").wait_for()
    page.get_by_role("button", name="Stop the answer").click()
    page.locator("article.stopped.assistant").wait_for()
    page.get_by_role("button", name="Good answer").click()
    page.locator('[aria-label="Good answer"][aria-pressed="true"]').wait_for()
    assert streams


def test_a_stream_that_breaks(open_page: Callable[..., Any], agent: Callable[..., str]) -> None:
    """A stream that is cut in the middle of an answer goes on where it was."""
    page = open_page("about:blank")
    page.route_web_socket(SOCKETS, refuse)
    page.goto(page.service + f"/chat?agent={agent(tokens(200))}")
    ask(page, "Hello?")
    page.locator(ANSWER, has_text="T20").wait_for()
    page.context.set_offline(True)
    page.wait_for_timeout(1500)
    page.context.set_offline(False)
    whole(page, said(200))


def test_a_question_asked_without_a_network(open_page: Callable[..., Any]) -> None:
    """What is asked offline is kept, over a reload too, and sent once when the network is back."""
    page = open_page()
    ask(page, "Hello?")
    answered(page)
    page.context.set_offline(True)
    ask(page, "What is your refund policy?")
    page.locator("article.waiting").get_by_text("Sending").wait_for(state="attached")
    page.context.set_offline(False)
    page.reload()
    answered(page, 2)
    assert page.locator("article.user").count() == 2
    assert page.locator("article.waiting").count() == 0
