"""The widget in a real browser, on a real service: never a word lost or doubled, on any page."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.browser.doing import ANSWER, FOCUSED, ask, whole
from tests.browser.hosts import HostPages
from tests.browser.scripted import CONVERSATION, Scripted, row
from tests.story.chatting import Chatting, said, tokens

pytestmark = pytest.mark.timeout(180)


def test_first_answer(open_page: Callable[..., Any], agent: Callable[..., str]) -> None:
    """A question is marked as sent, and its answer comes to its end."""
    page = open_page(f"/chat?agent={agent(tokens(20))}")
    ask(page, "Hello?")
    page.locator("article.user").get_by_text("Sent").wait_for(state="attached")
    whole(page, said(20))
    assert page.locator("article.user .bubble").inner_text() == "Hello?"
    assert page.locator('[role="log"][aria-busy="true"]').count() == 0
    assert page.locator('[role="status"]').inner_text().startswith("T0 T1")


def test_refresh_mid_answer(open_page: Callable[..., Any], agent: Callable[..., str]) -> None:
    """A page that is loaded again in the middle of an answer shows all of it, once."""
    page = open_page(f"/chat?agent={agent(tokens(150))}")
    ask(page, "Hello?")
    page.locator(ANSWER, has_text="T20").wait_for()
    page.reload()
    whole(page, said(150))
    assert page.locator("article.user").count() == 1
    assert page.locator("article.assistant:has(.meta)").count() == 1


def test_dropped_connection(open_page: Callable[..., Any], agent: Callable[..., str]) -> None:
    """A network that goes away in the middle of an answer is told of, and costs no word."""
    page = open_page(f"/chat?agent={agent(tokens(700))}")
    ask(page, "Hello?")
    page.locator(ANSWER, has_text="T20").wait_for()
    page.context.set_offline(True)
    page.locator(".banner", has_text="You are offline").wait_for()
    page.wait_for_timeout(10_000)
    before = page.locator(ANSWER).last.inner_text()
    page.context.set_offline(False)
    whole(page, said(700))
    assert "T300" not in before  # it was the network that was away, not the answer
    page.locator(".banner").wait_for(state="hidden")


def test_killed_worker(open_page: Callable[..., Any], agent: Callable[..., str]) -> None:
    """A worker that dies in the middle of an answer is replaced by another one, and the answer comes whole."""
    page = open_page(f"/chat?agent={agent(tokens(150))}")
    ask(page, "Hello?")
    page.locator(ANSWER, has_text="T10").wait_for()
    page.evaluate("fetch('/demo/kill-worker', { method: 'POST' }).catch(() => 0)")
    whole(page, said(150))


def test_two_tabs(open_page: Callable[..., Any], agent: Callable[..., str]) -> None:
    """Two tabs show the same answer over one socket, and the second takes over when the first is closed."""
    first = open_page(f"/chat?agent={agent(tokens(150))}")
    ask(first, "Hello?")
    first.locator(ANSWER, has_text="T5").wait_for()
    sockets: list[Any] = []

    def note(socket: Any) -> None:
        sockets.append(socket)

    first.context.on("page", lambda page: page.on("websocket", note))
    second = open_page("/chat", beside=first)
    second.locator(ANSWER, has_text="T20").wait_for()
    assert sockets == []
    first.close()
    whole(second, said(150))
    ask(second, "And now?")
    second.locator("article.user").nth(1).wait_for()


def test_nothing_but_the_loader_before_it_is_opened(open_page: Callable[..., Any], hosts: HostPages) -> None:
    """A page that nobody chats on pays for one small file."""
    loaded: list[str] = []
    page = open_page("about:blank")
    page.on("request", lambda request: loaded.append(request.url.rpartition("/")[2]))
    page.goto(hosts.url("/plain"))
    page.get_by_role("button", name="Open chat").wait_for()
    page.wait_for_timeout(500)
    assert [name for name in loaded if name.endswith(".js")] == ["widget.js"]


def test_hostile_styles(open_page: Callable[..., Any], hosts: HostPages, service: Chatting) -> None:
    """A page whose styles unset everything changes nothing inside the widget."""
    looks = (
        "() => { const root = document.querySelector('parley-chat').shadowRoot;"
        " return ['.launcher', 'dialog', 'textarea', 'h2', '.go'].map((what) => {"
        " const { fontSize, color, display, width, position } = getComputedStyle(root.querySelector(what));"
        " return [what, fontSize, color, display, width, position] }) }"
    )
    seen = []
    for path in ("/plain", "/hostile"):
        page = open_page(hosts.url(path))
        page.locator("parley-chat button").click()
        page.get_by_role("textbox").wait_for()
        page.wait_for_timeout(400)
        seen.append(page.evaluate(looks))
    assert seen[0] == seen[1]


def test_strict_policy(open_page: Callable[..., Any], hosts: HostPages) -> None:
    """Under a strict policy with trusted types, a whole chat makes no violation."""
    page = open_page("about:blank")
    page.add_init_script(
        "window.violations = []; document.addEventListener('securitypolicyviolation',"
        " (event) => violations.push(event.violatedDirective + ' ' + event.blockedURI))"
    )
    page.goto(hosts.url("/strict"))
    page.get_by_role("button", name="Open chat").click()
    ask(page, "What is your refund policy?")
    page.locator("article.complete.assistant").wait_for()
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="New conversation").click()
    assert page.evaluate("violations") == []


def test_hostile_answer(open_page: Callable[..., Any], agent: Callable[..., str]) -> None:
    """What a model writes stays text: no script, no request, no address but of the web."""
    asked: list[str] = []
    name = agent("demo", kind="python:hostile_agent:answer")
    page = open_page(f"/chat?agent={name}")
    page.on("request", lambda request: asked.append(request.url))
    ask(page, "Hello?")
    page.locator("article.complete.assistant").wait_for()
    assert page.evaluate("window.pwned") is None
    assert not [url for url in asked if "evil.example" in url]
    assert page.locator(f"{ANSWER} :is(script, img, iframe, b)").count() == 0
    links = page.locator(f"{ANSWER} a[href]").evaluate_all("(links) => links.map((link) => link.href)")
    assert all(link.startswith(("http:", "https:", "mailto:")) for link in links)
    assert "unclosed <b>fence</b>" in page.locator(f"{ANSWER} pre").inner_text()


def test_a_line_of_a_megabyte(open_page: Callable[..., Any]) -> None:
    """More than a server of ours would send is shown all the same, as text, and the page goes on."""
    page = open_page("about:blank")
    text = "y" * 1_000_000 + "\n\n<script>window.pwned = 1</script>\n\n~~~html\n<b>open"
    Scripted(page, row(1, "user", "Hello?"), row(2, "assistant", text))
    page.goto(page.service + f"/chat?conversation={CONVERSATION}")
    assert page.locator(f"{ANSWER} pre").inner_text() == "<b>open"
    page.get_by_role("textbox").fill("Still here")
    assert page.evaluate("window.pwned") is None
    assert page.locator(".log").evaluate("(log) => log.scrollWidth <= log.clientWidth")
    assert page.locator(f"{ANSWER} :is(script, b)").count() == 0


def test_keyboard_only(open_page: Callable[..., Any], hosts: HostPages) -> None:
    """Without a mouse: open, ask, rate, and back to where one was."""
    page = open_page(hosts.url("/plain"))
    page.get_by_role("button", name="Open chat").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.wait_for_function(f"{FOCUSED}?.localName === 'textarea'")
    page.keyboard.type("What is your refund policy?")
    page.keyboard.press("Enter")
    page.locator("article.complete.assistant").wait_for()
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        if page.evaluate(f"{FOCUSED}?.ariaLabel") == "Good answer":
            break
    page.keyboard.press("Space")
    page.wait_for_function(f"{FOCUSED}?.ariaPressed === 'true' && {FOCUSED}.ariaLabel === 'Good answer'")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.evaluate(f"[{FOCUSED}.part.value, {FOCUSED}.ariaExpanded]") == ["launcher", "false"]


def test_stop_and_edit(open_page: Callable[..., Any], agent: Callable[..., str]) -> None:
    """An answer is stopped by the button that sends, and the last question can be put again."""
    page = open_page(f"/chat?agent={agent(tokens(600))}")
    ask(page, "Hello?")
    page.locator(ANSWER, has_text="T5").wait_for()
    page.get_by_role("button", name="Stop the answer").click()
    page.locator("article.stopped.assistant").wait_for()
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_role("textbox").fill("Hello again?")
    page.keyboard.press("Enter")
    page.locator("article.user .bubble", has_text="Hello again?").wait_for()
    assert page.locator("article.user").count() == 1


def test_draft_survives_a_reload(open_page: Callable[..., Any]) -> None:
    """What was begun is still there after a reload."""
    page = open_page()
    page.get_by_role("textbox").fill("Half a thou")
    page.reload()
    page.wait_for_function(
        "document.querySelector('parley-chat').shadowRoot.querySelector('textarea')?.value === 'Half a thou'"
    )


def test_events_and_early_calls(open_page: Callable[..., Any], hosts: HostPages) -> None:
    """Calls made before anything is loaded are done, and the page hears what happens."""
    page = open_page("about:blank")
    page.add_init_script(
        "window.heard = []; window.Parley = [['sendMessage', 'What is your refund policy?']];"
        "for (const name of ['ready', 'open', 'close', 'message', 'unread', 'error', 'handoff'])"
        " document.addEventListener('parley:' + name, () => heard.push(name))"
    )
    page.goto(hosts.url("/plain"))
    page.locator("article.complete.assistant").wait_for()
    page.evaluate("Parley.close()")
    page.get_by_role("dialog").wait_for(state="hidden")
    heard = page.evaluate("heard")
    assert heard[:2] == ["ready", "open"]
    assert heard[-1] == "close"
    assert "message" in heard
    assert "error" not in heard


def test_an_answer_to_a_closed_chat_is_counted(open_page: Callable[..., Any], hosts: HostPages) -> None:
    """Who closed the chat sees on its button that something came, and not any more when it is opened."""
    page = open_page(hosts.url("/plain"))
    page.get_by_role("button", name="Open chat").click()
    ask(page, "What is your refund policy?")
    page.locator("article.live.assistant").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Open chat, 1 new message").click()
    page.locator(".badge").wait_for(state="hidden")


def test_right_to_left(open_page: Callable[..., Any]) -> None:
    """In Arabic the whole widget is turned round."""
    page = open_page("/chat?locale=ar", viewport={"width": 390, "height": 844})
    page.get_by_role("textbox", name="رسالتك").wait_for()
    field, go = page.get_by_role("textbox").bounding_box(), page.locator(".go").bounding_box()
    assert go["x"] < field["x"]
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
