"""Debian's Chromium on a real service; all of it is skipped where there is no browser."""

import asyncio
import importlib
import os
import shutil
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from tests.browser.hosts import HostPages
from tests.story.chatting import Chatting
from tests.story.conftest import made_place

Result = TypeVar("Result")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    # Names of pages that are not this machine's, as far as the browser and the service know.
    "--host-resolver-rules=MAP *.example 127.0.0.1",
)
PATIENCE_MS = 15_000
HOW = "apt-get install chromium; pip install playwright axe-playwright-python; then make test-browser"
HOSTILE_AGENT = '''
"""A model that means harm."""
from parley.agents.interface import Finished, TextGrew

PIECES = [
    "<script>window.pwned = 1</script><img src=https://evil.example/x.png onerror='window.pwned = 1'>\\n\\n",
    "[click](javascript:window.pwned=1) [wide](java\\tscript:window.pwned=1) ![leak](https://evil.example/leak.png?q=1)\\n\\n",
    "[data](data:text/html,<script>window.pwned=1</script>) <https://evil.example/auto>\\n\\n",
    "x" * 200_000,
    "\\n\\n```js\\nunclosed <b>fence</b>",
]

async def answer(turn):
    for piece in PIECES:
        yield TextGrew(piece)
    yield Finished("stop")
'''
LONG_AGENT = '''
"""A model that has much to say: 20,000 tokens of Markdown."""
import asyncio
from parley.agents.interface import Finished, TextGrew

async def answer(turn):
    for number in range(20_000):
        begins = "\\n\\n" + ("## ", "- ", "", "")[number // 80 % 4] if number % 80 == 0 else " "
        yield TextGrew(f"{begins}**w{number}**" if number % 25 == 0 else f"{begins}w{number}")
        if number % 20 == 0:
            await asyncio.sleep(0.01)
    yield Finished("stop")
'''


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One browser for all tests; each has a profile of its own."""
    chromium = os.environ.get("PARLEY_TEST_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.skip(f"no chromium here: {HOW}")
    try:
        api: Any = importlib.import_module("playwright.sync_api")
    except ModuleNotFoundError:
        pytest.skip(f"no playwright here: {HOW}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def service(browser: Any) -> Iterator[Chatting]:
    """A service with two workers and a provider that answers on command."""
    with made_place() as path:
        (path / "hostile_agent.py").write_text(HOSTILE_AGENT)
        (path / "long_agent.py").write_text(LONG_AGENT)
        places = [str(path), *filter(None, [os.environ.get("PYTHONPATH")])]
        running = Chatting(path, "--workers", "2", environ={"PYTHONPATH": os.pathsep.join(places)})
        yield running
        running.end()


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Do something asynchronous; the browser's own loop runs in this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@pytest.fixture
def agent(service: Chatting) -> Callable[..., str]:
    """Make an agent that asks this model."""
    return lambda model, **definition: run(service.agent(model, **definition))


@pytest.fixture
def site(service: Chatting) -> Callable[..., dict[str, Any]]:
    """Make a site with pages on these origins."""

    def make(*origins: str) -> dict[str, Any]:
        admin = run(service.person("admin"))
        answer = run(service.ask(admin, "POST", "/auth/sites", json={"name": "Shop", "origins": origins}))
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    return make


@pytest.fixture
def hosts(service: Chatting) -> Iterator[HostPages]:
    """Pages of another origin that embed the widget."""
    with HostPages(service.url) as pages:
        yield pages


@pytest.fixture
def open_page(browser: Any, service: Chatting) -> Iterator[Callable[..., Any]]:
    """Open a page in a profile of the test's own, or in that of another page; nothing may be printed or thrown."""
    contexts: list[Any] = []
    noise: list[str] = []

    def begin(url: str = "/chat", beside: Any = None, *, is_noisy: bool = False, **options: Any) -> Any:
        context = beside.context if beside else browser.new_context(**options)
        if not beside:
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.service = service.url
        if not is_noisy:  # a browser tells of each refusal by itself
            page.on("console", lambda said: noise.append(said.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.goto(service.url + url if url.startswith("/") else url)
        return page

    yield begin
    for context in contexts:
        context.close()
    # What the browser itself says of a network that we cut is not ours to silence.
    assert [line for line in noise if "net::ERR" not in line and "WebSocket connection" not in line] == []
