"""Row 33: a worker that has no descriptor left refuses who comes, serves who is there, and recovers."""

import asyncio
import itertools
import sys
from contextlib import suppress
from pathlib import Path

import httpx
from tests.ops.front import SHARED
from tests.story.chatting import Chatting, Provider, gaps, percentile, said, staged, tokens
from tests.story.conftest import place
from tests.story.serving import Serving

__all__ = ["place"]
MOST, STRANGERS = 256, 400
LIMITED = ("/bin/sh", "-c", f'ulimit -n {MOST}; exec "$0" "$@"', sys.executable)


class Limited(Chatting):
    """A service whose processes may open few files."""

    def __init__(self, place: Path) -> None:
        self.ports, self._numbers, self._admin = {}, itertools.count(), None
        self.provider = Provider()
        environ = {**SHARED, "PARLEY_MODEL_BASE_URL": self.provider.url}
        self.serving = Serving(place, "--workers", "1", environ=environ, python=LIMITED)
        try:
            self.serving.wait_ready()
        except BaseException:
            self.end()
            raise


async def test_who_is_there_is_served_and_who_comes_later_is_served_later(place: Path, at_leisure: None) -> None:
    chatting = await asyncio.to_thread(Limited, place)
    strangers: list[asyncio.StreamWriter] = []
    try:
        async with staged(chatting) as stage:
            anna = await chatting.person()
            conversation = await chatting.conversation(anna, await chatting.agent(tokens(150)))
            tabs = [await stage.tab(anna, conversation), await stage.tab_sse(anna, conversation)]
            reply = str((await tabs[0].send("Hello?")).reply_id)
            await tabs[1].until_text(20)
            for _ in range(STRANGERS):
                with suppress(OSError):
                    strangers.append((await asyncio.open_connection("127.0.0.1", chatting.serving.port))[1])
            worker = chatting.serving.workers()
            async with chatting.http(anna) as http:
                assert not await is_answered(http), "there was a descriptor left"
            for tab in tabs:
                assert (await tab.until_end(reply))["status"] == "complete"
                assert tab.history.text(reply) == said(150)
                assert not tab.history.of_type("client_reconnecting")
                assert percentile(gaps(tab.history.token_times(reply)), 0.9) < 0.25
            second = str((await tabs[0].send("And now?")).reply_id)
            await tabs[1].until_end(second)
            for stranger in strangers:
                stranger.transport.abort()
            async with chatting.http(anna) as http, asyncio.timeout(30):
                while not await is_answered(http):
                    await asyncio.sleep(0.2)
            assert chatting.serving.workers() == worker
            await stage.settle(conversation)
    finally:
        for stranger in strangers:
            stranger.transport.abort()
        await asyncio.to_thread(chatting.end)


async def is_answered(http: httpx.AsyncClient) -> bool:
    with suppress(httpx.HTTPError):
        return (await http.get("/auth/me", timeout=2)).status_code == 200
    return False
