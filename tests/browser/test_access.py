"""For everybody: what axe finds in the states of the widget, and a page that is zoomed."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from tests.browser.conftest import HOW
from tests.browser.doing import FOCUSED
from tests.browser.scripted import CONVERSATION, Scripted, row

pytestmark = pytest.mark.timeout(180)
RICH = (
    "## Returns\n\nYou have **30 days**, see [the page](https://shop.example/returns) [1].\n\n- one\n- two\n\n"
    "| Size | Left |\n| --- | --- |\n| S | 2 |\n\n```python\nprint('hello')\n```\n\n> As it says there."
)
LONG = "Return a jacket, a coat or any other worn-in outdoor gear that was made to be repaired"
SOURCES = [
    {"number": 1, "title": "Returns", "url": "https://shop.example/returns", "excerpt": "Thirty days."},
    {"number": 2, "title": LONG, "url": None, "excerpt": "Sixty days."},
]
STEPS = [{"call_id": "c", "name": "search", "label": "Searched the help centre", "ok": True, "summary": "2 found"}]
ROWS = (
    row(1, "user", "Can I return it?"),
    row(2, "assistant", RICH, sources=SOURCES, steps=STEPS),
    row(3, "notice", "Grace joined."),
    row(4, "operator", "Of course.", author={"id": "op", "name": "Grace"}),
    row(5, "user", "And this one?"),
    row(6, "assistant", "No.", status="failed"),
    row(7, "assistant", "Yes.", replaces="01980000-0000-7000-8000-000000000006"),
)
LIVE = row(8, "assistant", "", status="streaming")
BEGUN = (
    {"type": "message", "message": LIVE, "id": "1.2"},
    {"type": "start", "message_id": LIVE["id"], "attempt": 1, "agent": "a", "model": "m", "id": "1.3"},
    {"type": "token", "message_id": LIVE["id"], "content": "One moment, ", "id": "1.4"},
)


def nothing(_page: Any, _scripted: Scripted) -> None:
    """As it is after opening it."""


def stream(page: Any, scripted: Scripted) -> None:
    scripted.say(*BEGUN)
    page.locator("article.live .caret").wait_for()


def show_list(page: Any, _: Scripted) -> None:
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="New conversation").wait_for()


def edit(page: Any, _: Scripted) -> None:
    page.get_by_role("button", name="Edit", exact=True).click()


def give_reason(page: Any, _: Scripted) -> None:
    page.get_by_role("button", name="Bad answer").last.click()
    page.get_by_role("textbox", name="What was wrong?").wait_for()


def lose_network(page: Any, scripted: Scripted) -> None:
    scripted.is_silent = True
    page.context.set_offline(True)
    page.locator(".banner", has_text="You are offline").wait_for()


STATES: dict[str, tuple[Callable[[Any, Scripted], None], dict[str, Any], str]] = {
    "messages": (nothing, {}, ""),
    "messages in the dark": (nothing, {"color_scheme": "dark"}, ""),
    "answer that grows": (stream, {}, ""),
    "conversations": (show_list, {"color_scheme": "dark"}, ""),
    "editing": (edit, {}, ""),
    "reason": (give_reason, {}, ""),
    "offline": (lose_network, {"color_scheme": "dark"}, ""),
    "offline in the light": (lose_network, {}, ""),
    "person, right to left, on a phone": (nothing, {"viewport": {"width": 390, "height": 844}}, "&locale=ar"),
}


@pytest.mark.parametrize("name", STATES)
def test_axe_finds_nothing(open_page: Callable[..., Any], name: str) -> None:
    """No serious or critical finding of axe, in any state."""
    try:
        axe = importlib.import_module("axe_playwright_python.sync_playwright").Axe()
    except ModuleNotFoundError:
        pytest.skip(f"no axe here: {HOW}")
    act, options, query = STATES[name]
    # axe writes markup, which our own policy forbids.
    page = open_page("about:blank", bypass_csp=True, reduced_motion="reduce", **options)
    scripted = Scripted(page, *ROWS, mode="human" if "person" in name else "ai")
    page.goto(page.service + f"/chat?conversation={CONVERSATION}{query}")
    page.locator("article").nth(5).wait_for()
    act(page, scripted)
    page.wait_for_timeout(200)

    found = axe.run(page).response["violations"]

    bad = [finding for finding in found if finding["impact"] in {"serious", "critical"}]
    assert [(finding["id"], [node["html"] for node in finding["nodes"]]) for finding in bad] == []


@pytest.mark.parametrize("path", ["/", f"/chat?conversation={CONVERSATION}"])
def test_zoomed_to_twice_the_size(open_page: Callable[..., Any], path: str) -> None:
    """At 200 % of 1280 x 800 everything is there, nothing is cut off, and nothing scrolls sideways."""
    page = open_page("about:blank", viewport={"width": 640, "height": 400}, device_scale_factor=2)
    page.add_init_script(f"localStorage['parley::conversation'] = '{CONVERSATION}'")
    Scripted(page, *ROWS)
    page.goto(page.service + path)
    if path == "/":
        page.get_by_role("button", name="Open chat").click()
    page.locator("article").nth(5).wait_for()
    for what in ("textarea", "header button:first-of-type", "header button:last-of-type", ".go"):
        box = page.locator(what).bounding_box()
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= 640
        assert box["y"] + box["height"] <= 400
    assert page.locator(".log").bounding_box()["height"] > 100
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert page.locator(".log").evaluate("(log) => log.scrollWidth <= log.clientWidth")


def open_rich_chat(open_page: Callable[..., Any], width: int) -> Any:
    """Open a page of its own with every kind of message."""
    page = open_page("about:blank", viewport={"width": width, "height": 844})
    Scripted(page, *ROWS)
    page.goto(page.service + f"/chat?conversation={CONVERSATION}")
    page.locator("article").nth(5).wait_for()
    return page


def test_text_of_twice_the_size(open_page: Callable[..., Any]) -> None:
    """With the letters alone twice as large, nothing is wider than the panel."""
    page = open_rich_chat(open_page, 390)
    page.locator("parley-chat").evaluate("(chat) => chat.style.setProperty('--parley-font-size', '30px')")
    wide = "(node) => node.scrollWidth > node.clientWidth + 1"
    for what in (".log", "header", "form.composer", "article.assistant"):
        assert not page.locator(what).first.evaluate(wide), what


def test_focus_stays_in_a_panel_that_covers_the_page(open_page: Callable[..., Any]) -> None:
    """On a phone the panel is modal: the focus goes round in it, and back to the button when it is closed."""
    page = open_page("/", viewport={"width": 390, "height": 844}, has_touch=True)
    page.get_by_role("button", name="Open chat").click()
    page.get_by_role("textbox").wait_for()
    for _ in range(12):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.localName")
        assert focused in {"parley-chat", "body"}, focused
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.evaluate(f"{FOCUSED}.part.value") == "launcher"


def test_every_target_is_large_enough(open_page: Callable[..., Any]) -> None:
    """Whatever can be pressed is at least 44 px high and wide, with the room around it, but for numbers in a text."""
    page = open_rich_chat(open_page, 390)
    small = page.locator(":is(button, summary, textarea):not(.cite)").evaluate_all(
        "(nodes) => nodes.filter((node) => node.checkVisibility()).map((node) => {"
        " const { width, height } = node.getBoundingClientRect();"
        " const around = -parseFloat(getComputedStyle(node, '::after').inset || 0) || 0;"
        " return [node.ariaLabel || node.textContent, width + 2 * around, height + 2 * around] })"
        ".filter(([, width, height]) => width < 43.5 || height < 43.5)"
    )
    assert small == []


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_wider_than_the_panel(open_page: Callable[..., Any], width: int) -> None:
    """A long title is cut; what may be wide, a table or code, scrolls in itself."""
    page = open_rich_chat(open_page, width)
    wide = page.locator("article :not(.wide *, pre *)").evaluate_all(
        "(nodes) => nodes.filter((node) => node.checkVisibility() && node.getBoundingClientRect().right > innerWidth)"
        ".map((node) => node.outerHTML.slice(0, 80))"
    )
    assert wide == []
