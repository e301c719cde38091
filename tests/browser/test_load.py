"""Long histories and long answers: what the page's own thread is kept busy with. Bounds are wide, for busy machines."""

import re
import statistics
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from tests.browser.conftest import run
from tests.browser.doing import answered, ask, open_chat
from tests.browser.hosts import HostPages
from tests.browser.scripted import CONVERSATION, Scripted, row
from tests.story.chatting import Chatting

pytestmark = pytest.mark.timeout(300)
LONG = 10_000
PAGE = 500  # ten times what the service gives: there are other tests to run
LOG = "document.querySelector('parley-chat').shadowRoot.querySelector('.log')"
WATCH = """() => {
  window.frames_ms = []; window.long_ms = [];
  new PerformanceObserver((list) => long_ms.push(...list.getEntries().map(({ duration }) => duration)))
    .observe({ type: "longtask" });
  let last = performance.now();
  const frame = (now) => { frames_ms.push(now - last); last = now; requestAnimationFrame(frame); };
  requestAnimationFrame(frame);
}"""
FORGET = "() => { frames_ms.length = 0; long_ms.length = 0; }"
TEXTS = (
    "Can I return it?",
    "You have **30 days**:\n\n- keep the label\n- send it to `us`\n\nSee [here](https://a.example).",
)


async def write_history(service: Chatting, conversation: str, user: str, count: int) -> None:
    """Store so many messages, as if they had been asked and answered."""
    connection = await asyncpg.connect(service.serving.told()["database_url"], timeout=5)
    try:
        await connection.execute(
            "INSERT INTO messages (id, conversation_id, seq, rev, role, content, author_id)"
            " SELECT gen_random_uuid(), $1, n, n, CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant' END,"
            " repeat('Message ' || n || '. ', 1 + n % 9), CASE n % 2 WHEN 1 THEN $2::uuid END"
            " FROM generate_series(1, $3) n",
            *(conversation, user, count),
        )
        await connection.execute(
            "UPDATE conversations SET rev = $2::int, last_seq = $2::int WHERE id = $1", conversation, count
        )
    finally:
        await connection.close()


def history(seq: int) -> dict[str, Any]:
    return row(seq, "assistant" if seq % 2 == 0 else "user", f"{TEXTS[seq % 2 == 0]} ({seq})")


def measured(page: Any, what: str) -> tuple[float, float]:
    """Return the median frame and the longest task since the last time, and print them."""
    page.wait_for_timeout(100)
    frames, longs = page.evaluate("[frames_ms, long_ms]")
    page.evaluate(FORGET)
    median, worst = statistics.median(frames), max(longs, default=0)
    high = sorted(frames)[int(len(frames) * 0.95)]
    print(f"{what}: {len(frames)} frames, median {median:.0f} ms, 95th {high:.0f} ms, longest task {worst:.0f} ms")
    return median, worst


def test_a_history_of_ten_thousand(open_page: Callable[..., Any]) -> None:
    """Paged through to its beginning, it scrolls smoothly, and so does an answer below it."""
    page = open_page("about:blank")
    scripted = Scripted(page, *map(history, range(LONG - 49, LONG + 1)), has_more=True)

    def page_before(route: Any) -> None:
        first = int(re.search("before=[0-9a-f-]*-([0-9a-f]{12})", route.request.url)[1], 16)  # type: ignore[index]
        rows = [history(seq) for seq in range(max(1, first - PAGE), first)]
        route.fulfill(json={"object": "list", "data": rows, "has_more": first > PAGE + 1})

    page.route(re.compile("/messages\\?.*before="), page_before)
    page.goto(page.service + f"/chat?conversation={CONVERSATION}")
    page.locator("article").nth(40).wait_for()
    page.evaluate(WATCH)
    page.evaluate(f"window.climb = setInterval(() => {LOG}.scrollTop -= 2000, 30)")
    page.wait_for_function(f"() => {LOG}.querySelectorAll('article').length > {LONG}", timeout=200_000, polling=500)
    page.evaluate("clearInterval(climb)")
    paged, _ = measured(page, "paging up to the first of 10,000")

    page.evaluate(
        f"() => new Promise((done) => {{ const log = {LOG}; let left = 120; const step = () => {{"
        " log.scrollTop += 1500; left-- ? requestAnimationFrame(step) : done() }; step() })"
    )
    scrolled, longest = measured(page, "scrolling down")

    page.get_by_role("button", name="Jump to latest").click()
    live = row(LONG + 1, "assistant", "", status="streaming")
    scripted.say({"type": "message", "message": live, "id": "1.2"})
    scripted.say({"type": "start", "message_id": live["id"], "attempt": 1, "agent": "a", "model": "m", "id": "1.3"})
    page.wait_for_timeout(500)
    page.evaluate(FORGET)
    for number in range(100):
        scripted.say({"type": "token", "message_id": live["id"], "content": f" word {number}", "id": f"2.{number}"})
        page.wait_for_timeout(15)
    streamed, longest_streamed = measured(page, "an answer below them")

    assert page.locator("article.live .bubble").inner_text().endswith("word 99")
    assert paged < 100
    assert scrolled < 150
    assert streamed < 100
    assert max(longest, longest_streamed) < 1000


def test_an_answer_of_twenty_thousand_tokens(open_page: Callable[..., Any], agent: Callable[..., str]) -> None:
    """It streams without keeping the page busy: no task is long, at its end as little as at its beginning."""
    page = open_page(f"/chat?agent={agent('demo', kind='python:long_agent:answer')}")
    tracing = page.context.new_cdp_session(page)
    tracing.send("Performance.enable")
    page.evaluate(WATCH)
    ask(page, "Hello?")
    page.locator("article.live.assistant").wait_for()
    page.evaluate(FORGET)
    answered(page, 1, 120_000)
    assert page.locator("article.complete.assistant .bubble").inner_text().endswith(" w19999")
    median, longest = measured(page, "an answer of 20,000 tokens")
    took = {one["name"]: one["value"] for one in tracing.send("Performance.getMetrics")["metrics"]}
    print({name: round(took[name], 2) for name in ("LayoutCount", "LayoutDuration", "ScriptDuration", "TaskDuration")})
    assert page.evaluate(f"{LOG}.scrollHeight - {LOG}.scrollTop - {LOG}.clientHeight") < 48
    assert median < 100
    assert longest < 500


def test_paging_up_keeps_the_place(open_page: Callable[..., Any], service: Chatting) -> None:
    """Older messages appear above what is read, which does not move; from the real service, down to the first."""
    person = run(service.person())
    conversation = run(service.conversation(person))
    run(write_history(service, conversation, person.id, 170))
    page = open_page("about:blank")
    session = {"access": person.token, "refresh": "", "expiresAt": 4e12, "user": {"id": person.id}, "subject": None}
    page.goto(page.service + "/chat?conversation=" + conversation)
    page.evaluate("(held) => localStorage.setItem('parley::session', JSON.stringify(held))", session)
    page.reload()
    page.locator("article", has_text="Message 170.").wait_for()
    place = (
        "() => { const log = " + LOG + "; const top = log.getBoundingClientRect().top;"
        " const isSeen = (one) => one.getBoundingClientRect().bottom > top + 60;"
        " const seen = [...log.querySelectorAll('article')].find(isSeen);"
        " return [seen.querySelector('.bubble').textContent, Math.round(seen.getBoundingClientRect().top - top)] }"
    )
    count = "(count) => " + LOG + ".querySelectorAll('article').length >= count"
    for shown in (100, 150, 170):
        page.evaluate(f"{LOG}.scrollTop = 150")
        before = page.evaluate(place)
        page.wait_for_function(count, arg=shown)
        page.wait_for_timeout(200)
        text, top = page.evaluate(place)
        assert text == before[0]
        assert abs(top - before[1]) <= 2
    assert page.locator("article", has_text="Message 1.").count() == 1


def test_ready_soon_and_idle_after(open_page: Callable[..., Any], hosts: HostPages) -> None:
    """From the press of the button to a field that takes letters; and a chat that nothing happens in does nothing."""
    page = open_page(hosts.url("/plain"))
    page.get_by_role("button", name="Open chat").wait_for()
    took = page.evaluate(
        "async () => { const chat = document.querySelector('parley-chat'); const began = performance.now();"
        " chat.shadowRoot.querySelector('button').click();"
        " while (chat.shadowRoot.activeElement?.localName !== 'textarea') await new Promise(requestAnimationFrame);"
        " return performance.now() - began }"
    )
    print(f"from click to ready: {took:.0f} ms")
    ask(page, "What is your refund policy?")
    answered(page)
    page.wait_for_timeout(6000)
    tracing = page.context.new_cdp_session(page)
    tracing.send("Performance.enable")

    def spent() -> dict[str, float]:
        return {one["name"]: one["value"] for one in tracing.send("Performance.getMetrics")["metrics"]}

    before = spent()
    page.wait_for_timeout(10_000)
    after = spent()
    idle = {name: after[name] - before[name] for name in ("TaskDuration", "ScriptDuration", "LayoutCount")}
    print({name: round(value, 4) for name, value in idle.items()})
    assert took < 3000
    assert idle["ScriptDuration"] < 0.05
    assert idle["LayoutCount"] <= 2


def test_all_that_is_loaded(open_page: Callable[..., Any], hosts: HostPages) -> None:
    """A whole chat, with everything pressed, loads loader, widget and one language, in at most 30 KiB together."""
    sizes: dict[str, int] = {}
    page = open_page("about:blank")

    def note(answer: Any) -> None:
        if "/widget" in answer.url:
            path = re.sub("/widget/[0-9a-f]{16}/", "", answer.url.removeprefix(page.service))
            sizes[path] = int(answer.headers["content-length"])

    page.on("response", note)
    page.goto(hosts.url("/plain"))
    open_chat(page)
    ask(page, "What is your refund policy?")
    answered(page)
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="New conversation").click()
    print(sizes)
    assert set(sizes) == {"/widget.js", "widget.js", "locales/en.js"}
    assert sum(sizes.values()) <= 30 * 1024
