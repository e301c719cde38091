"""Sites, users, people at the desk, and several tabs."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from jose import jwt
from tests.browser.conftest import run
from tests.browser.doing import answered, ask, open_chat
from tests.browser.hosts import HostPages
from tests.browser.scripted import CONVERSATION, Scripted, row
from tests.story.chatting import Chatting

pytestmark = pytest.mark.timeout(180)
TAG = '<script async src="{{service}}/widget.js" data-site="{key}"></script>\n'
USER = '<script>(window.Parley ??= []).push(["setUser", "{token}"])</script>\n'
SESSION = "JSON.parse(localStorage[Object.keys(localStorage).find((key) => key.endsWith(':session'))])"
QUESTION = "What is your refund policy?"


def signed(site: dict[str, Any], user: str) -> str:
    """Return what the site's own server puts into its page."""
    claims = {"sub": user, "exp": int(time.time()) + 600, "name": user.title()}
    token: str = jwt.encode(claims, site["secret"], "HS256")
    return token


def test_a_page_of_another_origin_with_two_lines(
    open_page: Callable[..., Any], hosts: HostPages, site: Callable[..., dict[str, Any]]
) -> None:
    """A shop's page carries the tag and who its customer is, and nothing else; over plain http too."""
    shop = site(hosts.origin("shop.example"))
    hosts.put("/shop", TAG.format(key=shop["key"]) + USER.format(token=signed(shop, "ada")))
    page = open_page(hosts.url("/shop", "shop.example"))
    open_chat(page)
    ask(page, QUESTION)
    answered(page)
    held = page.evaluate(SESSION)
    assert (held["user"]["name"], held["user"]["is_guest"]) == ("Ada", False)
    assert page.context.cookies() == []


def test_a_key_on_a_strangers_page(
    open_page: Callable[..., Any], hosts: HostPages, site: Callable[..., dict[str, Any]]
) -> None:
    """A site's key is worth nothing elsewhere: nobody is signed in, nothing is sent, and the question is kept."""
    shop = site(hosts.origin("shop.example"))
    hosts.put("/thief", TAG.format(key=shop["key"]))
    page = open_page(hosts.url("/thief", "thief.example"), is_noisy=True)
    open_chat(page)
    ask(page, QUESTION)
    page.locator("header", has_text="Connecting").wait_for()
    page.wait_for_timeout(2000)
    assert page.locator("article.waiting").count() == 1
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.endsWith(':session'))") == []


def test_a_guest_becomes_a_user_and_is_forgotten(
    open_page: Callable[..., Any], hosts: HostPages, site: Callable[..., dict[str, Any]]
) -> None:
    """What a guest asked is there after `setUser`, and nothing of it after `reset`."""
    shop = site(hosts.origin())
    hosts.put("/shop", TAG.format(key=shop["key"]))
    page = open_page(hosts.url("/shop"))
    open_chat(page)
    ask(page, QUESTION)
    answered(page)
    page.evaluate("(token) => Parley.setUser(token)", signed(shop, "bob"))
    page.locator("header.is-online").wait_for()
    page.wait_for_function(f"{SESSION}.subject === 'bob'")
    assert page.locator("article.user").count() == 1
    ask(page, "And how long does it take?")
    answered(page, 2)

    other = open_page("about:blank")
    hosts.put("/elsewhere", TAG.format(key=shop["key"]) + USER.format(token=signed(shop, "bob")))
    other.goto(hosts.url("/elsewhere"))
    open_chat(other)
    other.get_by_role("button", name="Conversations").click()
    other.locator(".list li", has_text=QUESTION).click()
    answered(other, 2)

    page.evaluate("Parley.reset()")
    page.locator("article.user").first.wait_for(state="detached")
    page.wait_for_timeout(300)
    kept = page.evaluate("Object.keys(localStorage).filter((key) => /session|conversation|outbox|draft/.test(key))")
    assert kept == []
    page.get_by_role("button", name="Conversations").click()
    page.get_by_text("No conversations yet").wait_for()


def test_a_person_takes_over(open_page: Callable[..., Any], service: Chatting) -> None:
    """Who asks for a person is told so, reads what the person writes under their name, and may go back."""
    page = open_page("/chat")
    page.evaluate("window.heard = []; addEventListener('parley:handoff', (event) => heard.push(event.detail.mode))")
    ask(page, QUESTION)
    answered(page)
    page.get_by_role("button", name="Talk to a person").click()
    page.locator("header").get_by_text("A person will answer you here").wait_for()
    ask(page, "My parcel is lost.")
    conversation = page.evaluate("localStorage['parley::conversation']")
    operator = run(service.person("operator"))
    path = f"/chat/conversations/{conversation}/messages"
    answer = run(service.ask(operator, "POST", path, json={"content": "I will look for it."}))
    assert answer.status_code in {200, 202}, answer.text
    page.locator("article.operator .bubble", has_text="I will look for it.").wait_for()
    assert page.locator("article.operator .who").inner_text().startswith("operator")
    assert page.locator("article.assistant.complete").count() == 1
    page.get_by_role("button", name="Back to the assistant").click()
    page.get_by_role("button", name="Talk to a person").wait_for()
    assert page.evaluate("heard") == ["human", "ai"]


def test_feedback_with_a_reason(open_page: Callable[..., Any], service: Chatting) -> None:
    """A bad answer is rated by a button, and the reason behind it reaches the people at the desk."""
    page = open_page("/chat")
    ask(page, QUESTION)
    answered(page)
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_role("textbox", name="What was wrong?").fill("It is about jackets.")
    page.locator("form.why").get_by_role("button", name="Send").click()
    page.locator("form.why").wait_for(state="detached")
    page.reload()
    page.locator('[aria-label="Bad answer"][aria-pressed="true"]').wait_for()
    operator = run(service.person("operator"))
    conversation = page.evaluate("localStorage['parley::conversation']")
    listed = run(service.ask(operator, "GET", f"/chat/conversations/{conversation}/messages")).json()["data"]
    assert listed[-1]["feedback"] == {"rating": "down", "comment": "It is about jackets."}


def test_answers_to_one_question(open_page: Callable[..., Any]) -> None:
    """An answer given again stands in the place of the one before, which is still there to be leafed to."""
    page = open_page("/chat")
    ask(page, QUESTION)
    answered(page)
    first = page.locator("article.assistant:has(.meta) .bubble").inner_text()
    page.get_by_role("button", name="Answer again").click()
    group = page.get_by_role("group", name="Answer 2 of 2")
    group.wait_for()
    answered(page)
    assert page.locator("article.assistant:has(.meta)").count() == 1
    page.get_by_role("button", name="The answer before").click()
    page.get_by_role("group", name="Answer 1 of 2").wait_for()
    assert page.locator("article.assistant:has(.meta) .bubble").inner_text() == first
    page.get_by_role("button", name="The next answer").click()
    group.wait_for()
    page.reload()
    group.wait_for()


def test_tabs_are_open_together(open_page: Callable[..., Any], hosts: HostPages) -> None:
    """A chat opened or closed in one tab is so in the others, which do not lose their focus, nor the draft."""
    first = open_page(hosts.url("/plain"))
    open_chat(first)
    second = open_page(hosts.url("/plain"), beside=first)
    open_chat(second)
    second.keyboard.press("Escape")
    first.get_by_role("dialog").wait_for(state="hidden")
    first.evaluate(
        "document.body.append(Object.assign(document.createElement('input'), { id: 'field' })), field.focus()"
    )
    second.get_by_role("button", name="Open chat").click()
    second.get_by_role("textbox").fill("Half a thou")
    first.get_by_role("dialog").wait_for()
    assert first.evaluate("document.activeElement.id") == "field"
    first.bring_to_front()
    first.wait_for_function(
        "document.querySelector('parley-chat').shadowRoot.querySelector('textarea').value === 'Half a thou'"
    )


def test_what_is_preferred(open_page: Callable[..., Any]) -> None:
    """Sound, and answers only once they are whole, are choices that are kept; nothing sounds before it is asked for."""
    page = open_page("about:blank")
    page.add_init_script(
        "window.sounds = 0; window.AudioContext = class extends AudioContext { constructor() { super(); sounds += 1 } }"
    )
    Scripted(page, row(1, "user", "Hello?"))
    page.goto(page.service + f"/chat?conversation={CONVERSATION}")
    page.locator("article.user").wait_for()
    page.get_by_role("button", name="Conversations").click()
    assert page.evaluate("sounds") == 0
    page.get_by_role("checkbox", name="Sound for new messages").check()
    page.get_by_role("checkbox", name="Show answers only once they are complete").check()
    assert page.evaluate("sounds") == 1
    scripted = Scripted(page, row(1, "user", "Hello?"))
    page.reload()
    page.locator("article.user").wait_for()
    live = row(2, "assistant", "", status="streaming")
    scripted.say({"type": "message", "message": live, "id": "1.2"})
    scripted.say({"type": "start", "message_id": live["id"], "attempt": 1, "agent": "a", "model": "m", "id": "1.3"})
    scripted.say({"type": "token", "message_id": live["id"], "content": "Half", "id": "1.4"})
    page.locator("article.live .dots").wait_for()
    page.wait_for_timeout(200)
    assert page.locator("article.live .bubble").inner_text().strip() == ""


def test_who_types(open_page: Callable[..., Any]) -> None:
    """A person who types is seen to, and whoever types here is told of once."""
    page = open_page("about:blank")
    scripted = Scripted(page, row(1, "user", "Hello?"), mode="human")
    page.goto(page.service + f"/chat?conversation={CONVERSATION}")
    page.locator("article.user").wait_for()
    scripted.say({"type": "typing", "user": {"id": "op", "name": "Grace"}, "on": True})
    page.get_by_text("Grace is typing").wait_for()
    scripted.say({"type": "typing", "user": {"id": "op", "name": "Grace"}, "on": False})
    page.get_by_text("Grace is typing").wait_for(state="detached")
    page.get_by_role("textbox").press_sequentially("Hello")
    page.wait_for_timeout(200)
    assert [told["on"] for told in scripted.told if told["type"] == "typing"] == [True]
