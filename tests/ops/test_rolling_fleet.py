"""Two instances behind nginx, replaced one after the other under answers, as a deploy does; the long one is a soak."""

import asyncio
import signal
from pathlib import Path

import pytest
from tests.ops.front import Fleet, needs_nginx, nginx
from tests.story.chatting import said, staged, tokens
from tests.story.conftest import place

pytestmark = [needs_nginx, pytest.mark.timeout(240)]
__all__ = ["place"]
LENGTH, PACE_S = 100, 0.03


async def test_a_deploy_loses_and_doubles_nothing(
    place: Path, database_url: str, redis_url: str, at_leisure: None
) -> None:
    fleet = await asyncio.to_thread(lambda: Fleet(place, database_url, redis_url, instances=2))
    try:
        with nginx(*(instance.port for instance in fleet.instances)) as front:
            fleet.front = front
            anna, agent = await fleet.person(), await fleet.agent(tokens(LENGTH, PACE_S))
            async with staged(fleet) as stage:
                conversations = [await fleet.conversation(anna, agent) for _ in range(4)]
                tabs = [(await stage.tab(anna, where), await stage.tab_sse(anna, where)) for where in conversations]
                for number, old in enumerate(list(fleet.instances)):
                    replies = [str((await tab.send(f"Hello {number}?")).reply_id) for tab, _ in tabs]
                    await tabs[0][1].until_text(10, replies[0])
                    old.parent.send_signal(signal.SIGTERM)
                    for pair, reply in zip(tabs, replies, strict=True):
                        for screen in pair:
                            assert (await screen.until_end(reply))["status"] == "complete"
                            assert screen.history.text(reply) == said(LENGTH)
                            assert not screen.history.of_type("restart")
                    assert await asyncio.to_thread(old.wait_end) == 0
                    fleet.renew(number)
                    await asyncio.to_thread(fleet.instances[number].wait_ready)
                assert len(await stage.settle(*conversations)) == 2 * 2 * len(conversations)
    finally:
        await asyncio.to_thread(fleet.end)
