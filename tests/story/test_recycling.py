"""A worker that has done enough is replaced under its answers: successor first, then it drains."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.story.chatting import Chatting, said, staged, tokens
from tests.story.serving import wait_until

MOST = 60


@pytest.fixture
def chatting(place: Path) -> Iterator[Chatting]:
    """A worker that may answer little."""
    running = Chatting(place, "--workers", "1", "--max-requests", str(MOST))
    yield running
    running.end()


async def test_a_worker_that_has_done_enough_is_replaced_and_no_answer_shows_it(
    chatting: Chatting, at_leisure: None
) -> None:
    async with staged(chatting) as stage:
        anna = await chatting.person()
        conversation = await chatting.conversation(anna, await chatting.agent(tokens(200)))
        tab = await stage.tab(anna, conversation)
        [first] = chatting.serving.workers()
        reply = str((await tab.send("Hello?")).reply_id)
        await tab.until_text(20)
        deadline = time.monotonic() + 30
        failures = []
        async with chatting.http() as http:
            while "worker 1 replaced" not in chatting.serving.err and time.monotonic() < deadline:
                answer = await http.get("/health/live", headers={"Connection": "close"})
                failures += [answer.status_code] if answer.status_code != 200 else []
                await asyncio.sleep(0.05)
        assert failures == []
        assert (await tab.until_end(reply))["status"] == "complete"
        assert tab.history.text(reply) == said(200)
        assert not tab.history.of_type("restart")
        await stage.settle(conversation)
    assert "worker 1 has done enough; starting another" in chatting.serving.err
    wait_until(lambda: first not in chatting.serving.workers() and len(chatting.serving.workers()) == 1)
