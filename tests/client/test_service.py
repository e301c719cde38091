"""The client and a real service: what both agree on."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest_asyncio
from tests.conftest import Start
from tests.fixtures.guards import LoopGuard
from tests.fixtures.service import Service

from parley.agents.demo.brain import reply
from parley.agents.demo.server import open_demo
from parley.client import ParleyClient, SignIn

QUESTION = "How do I return a jacket?"


@pytest_asyncio.fixture
async def client(start_on_socket: Start, loop_guard: LoopGuard) -> AsyncIterator[ParleyClient]:
    """A guest's client of a service with the demo model."""
    with loop_guard.paused():
        async with open_demo(reply=reply, pace_s=0.01) as url, _service(start_on_socket, url) as service:
            sign_in = SignIn(service.base_url)
            await sign_in.as_guest("Ada")
            async with ParleyClient(service.base_url, token=sign_in) as client:
                yield client
            await sign_in.close()


def _service(start: Start, url: str) -> AbstractAsyncContextManager[Service]:
    return start(OPENAI_BASE_URL=url, OPENAI_API_KEY="k")


async def test_an_answer_over_post_is_whole_and_the_same_when_asked_again(client: ParleyClient) -> None:
    async with client.ask(QUESTION, client_id="c-1") as answer:
        kinds = [event.type async for event in answer]
    assert kinds[0] == "ready"
    assert kinds[-1] == "complete"
    assert answer.reply is not None
    assert answer.reply.status == "complete"
    assert answer.reply.steps[0]["ok"] is True
    async with client.ask(QUESTION, client_id="c-1") as again:
        async for _ in again:
            pass
    assert again.reply is not None
    assert (again.reply.id, again.reply.content) == (answer.reply.id, answer.reply.content)
    assert [list(again.reply.steps), list(again.reply.sources)] == [
        list(answer.reply.steps),
        list(answer.reply.sources),
    ]


async def test_two_who_watch_over_both_transports_hold_the_same(client: ParleyClient) -> None:
    conversation_id = (await client.create_conversation())["id"]
    async with client.watch(conversation_id) as socket, client.watch_sse(conversation_id) as stream:
        taken = await socket.send(QUESTION)
        assert taken.reply_id is not None
        for watch in (socket, stream):
            async for event in watch:
                if event.type == "complete":
                    break
    shown = [
        [(message.id, message.content, message.status) for message in watch.state.shown()] for watch in (socket, stream)
    ]
    assert shown[0] == shown[1]
    assert shown[0][1][0] == taken.reply_id


async def test_stop_edit_and_rating_are_taken(client: ParleyClient) -> None:
    conversation_id = (await client.create_conversation())["id"]
    async with client.watch(conversation_id) as watch:
        taken = await watch.send(QUESTION)
        assert taken.reply_id is not None
        async for event in watch:
            if event.type == "token":
                break
        await watch.stop(taken.reply_id)
        async for event in watch:
            if event.type == "complete":
                break
        stopped = watch.state.find(taken.reply_id)
        assert stopped is not None
        assert stopped.status == "stopped"
        await watch.rate(taken.reply_id, "down", "cut short")
        edited = await watch.edit(taken.message_id, "And a coat?")
        async for event in watch:
            if event.type == "complete":
                break
        rated = watch.state.find(taken.reply_id)
        assert rated is not None
        assert rated.row["feedback"] == {"rating": "down", "comment": "cut short"}
        question = watch.state.find(edited.message_id)
        assert question is not None
        assert (question.content, question.row["replaces"]) == ("And a coat?", taken.message_id)
