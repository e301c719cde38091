"""What people do with the widget, and what they wait for."""

from typing import Any

ANSWER = ".assistant .bubble"
FOCUSED = "document.activeElement.shadowRoot.activeElement"
_WHOLE = (
    "(text) => document.querySelector('parley-chat').shadowRoot"
    ".querySelector('article.complete.assistant .bubble')?.textContent.trim() === text"
)


def ask(page: Any, text: str) -> None:
    page.get_by_role("textbox").fill(text)
    page.keyboard.press("Enter")


def whole(page: Any, text: str) -> None:
    """Wait until an answer has ended and says this, to the letter."""
    page.wait_for_function(_WHOLE, arg=text.strip(), timeout=60_000)


def answered(page: Any, count: int = 1, patience_ms: int = 30_000) -> None:
    """Wait until so many answers are shown whole."""
    page.locator("article.complete.assistant").nth(count - 1).wait_for(timeout=patience_ms)


def open_chat(page: Any) -> None:
    page.get_by_role("button", name="Open chat").click()
    page.get_by_role("textbox").wait_for()
