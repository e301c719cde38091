"""An answer on every screen that watches: sent, refreshed, carried from worker to worker, asked for again."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from tests.fixtures.history import History
from tests.story.chatting import Person, Stage, gaps, percentile, said, tokens

SLOW_TOOL_S = 3.0  # of the agent in conftest


async def test_an_answer_is_streamed_to_a_socket(stage: Stage, anna: Person) -> None:
    agent = await stage.chatting.agent(tokens(30))
    conversation = await stage.chatting.conversation(anna, agent)
    tab = await stage.tab(anna, conversation)
    taken = await tab.send("Hello?")
    assert taken.reply_id is not None
    end = await tab.until_end(taken.reply_id)
    assert (end["status"], end["finish_reason"]) == ("complete", "stop")
    assert tab.history.text(taken.reply_id) == said(30)
    assert len(tab.history.of_type("token")) > 10  # as it was written, not all at once
    rows = await stage.settle(conversation)
    assert [(row["role"], row["content"]) for row in rows] == [("user", "Hello?"), ("assistant", said(30))]


async def test_an_answer_is_streamed_over_one_post(stage: Stage, anna: Person) -> None:
    """Without a conversation one is made, and `[DONE]` ends the stream."""
    screen = await stage.post(anna, "How do I return a jacket?", None, client_id="post-1")
    await screen.until_over()
    [end] = screen.history.of_type("complete")
    conversation = screen.history.of_type("ready")[0]["conversation"]["id"]
    rows = await stage.settle(conversation)
    assert end["status"] == "complete"
    assert screen.history.text(end["message_id"]) == rows[1]["content"] != ""
    assert screen.history.of_type("tool_call")


async def test_an_answer_of_any_letters_arrives_as_it_was_written(stage: Stage, anna: Person) -> None:
    text = "Grüße, 日本語 und 👩‍👩‍👧‍👦: e\u0301 \u202etfel\u202c z\u200dw"
    # A model's name is one line in normal form; what it says is not.
    spelled = text.replace("\u0301", "%CC%81")
    agent = await stage.chatting.agent(f"script-text?text={spelled}&pause_s=0.01")
    conversation = await stage.chatting.conversation(anna, agent)
    tabs = [await stage.tab(anna, conversation), await stage.tab_sse(anna, conversation)]
    taken = await tabs[0].send("Hello?")
    for tab in tabs:
        await tab.until_end(str(taken.reply_id))
        assert tab.history.text(str(taken.reply_id)) == text
    await stage.settle(conversation)


async def test_a_page_that_is_refreshed_in_mid_answer_shows_all_of_it(stage: Stage, anna: Person) -> None:
    agent = await stage.chatting.agent(tokens(60))
    conversation = await stage.chatting.conversation(anna, agent)
    tab = await stage.tab(anna, conversation)
    taken = await tab.send("Hello?")
    await tab.until_text(60)
    await stage.leave(tab)
    fresh = await stage.tab(anna, conversation)
    await fresh.until_end(str(taken.reply_id))
    assert fresh.history.text(str(taken.reply_id)) == said(60)
    await stage.settle(conversation)


@pytest.mark.parametrize("way", ["socket", "stream"])
async def test_a_connection_that_breaks_again_and_again_goes_on_where_it_was(
    stage: Stage, anna: Person, way: str
) -> None:
    """Each time at another worker, for that is where the door leads."""
    agent = await stage.chatting.agent(tokens(120))
    conversation = await stage.chatting.conversation(anna, agent)
    pids = sorted(stage.chatting.serving.workers())
    leads = {"to": pids[0]}
    shaky = await stage.door(lambda pid: pid == leads["to"])
    tab = await (stage.tab if way == "socket" else stage.tab_sse)(anna, conversation, shaky.url)
    steady = await stage.tab(anna, conversation)
    taken = await steady.send("Hello?")
    for number in range(1, 4):
        await tab.until_text(40 * number)
        leads["to"] = pids[number]
        shaky.slam()
        await tab.until(lambda history, number=number: len(history.of_type("ready")) > number)  # type: ignore[misc]
    await tab.until_end(str(taken.reply_id))
    assert tab.history.text(str(taken.reply_id)) == said(120)  # told once, though it was cut three times
    assert len(tab.history.of_type("reset")) == 1
    await stage.settle(conversation)


async def test_a_reader_hops_from_a_stream_of_one_worker_to_a_socket_of_another(stage: Stage, anna: Person) -> None:
    agent = await stage.chatting.agent(tokens(80))
    conversation = await stage.chatting.conversation(anna, agent)
    first, second, *_ = sorted(stage.chatting.serving.workers())
    here, there = await stage.door_to(first), await stage.door_to(second)
    writer = await stage.tab(anna, conversation, here.url)
    stream = await stage.tab_sse(anna, conversation, here.url)
    taken = await writer.send("Hello?")
    await stream.until_text(60)
    await stage.leave(stream)
    state, cursor = stream.watch.state, stream.watch.cursor  # type: ignore[union-attr]
    history = History("hop", anna.id, conversation, stayed=True, heard=stream.history.heard.copy())
    before = len(history.text(str(taken.reply_id)))
    socket = await stage.hop(anna, history, there.url, state, cursor)
    await socket.until_end(str(taken.reply_id))
    assert len(history.of_type("reset")) == 1
    assert before >= 60
    assert history.text(str(taken.reply_id)) == said(80)
    await stage.settle(conversation)


async def test_ten_tabs_on_four_workers_show_the_same(stage: Stage, anna: Person) -> None:
    agent = await stage.chatting.agent(tokens(50))
    conversation = await stage.chatting.conversation(anna, agent)
    doors = [await stage.door_to(pid) for pid in sorted(stage.chatting.serving.workers())]
    opening = (
        (stage.tab if number % 2 else stage.tab_sse)(anna, conversation, doors[number % 4].url) for number in range(9)
    )
    tabs = [await stage.tab(anna, conversation, doors[0].url), *await asyncio.gather(*opening)]
    taken = await tabs[0].send("Hello?")
    for tab in tabs:
        await tab.until_end(str(taken.reply_id))
        assert tab.history.text(str(taken.reply_id)) == said(50)
    elsewhere = [tab for tab in tabs if len(tab.history.of_type("token")) > 3]
    assert len(elsewhere) == 10  # all of them saw it grow
    await stage.settle(conversation)


async def raw_post(stage: Stage, person: Person, body: dict[str, str], cursor: str | None = None) -> list[bytes]:
    """Return the events of one POST as they came."""
    headers = {} if cursor is None else {"Last-Event-ID": cursor}
    async with (
        stage.chatting.http(person) as http,
        http.stream("POST", "/chat/stream", json=body, headers=headers) as got,
    ):
        assert got.status_code == 200, await got.aread()
        return [event async for event in split_events(got.aiter_bytes())]


async def split_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in chunks:
        *events, rest = (rest + chunk).split(b"\n\n")
        for event in events:
            yield event


def read(event: bytes) -> tuple[str | None, dict[str, object]]:
    lines = dict(line.split(": ", 1) for line in event.decode().splitlines() if not line.startswith(":"))
    return lines.get("id"), json.loads(lines["data"])


async def test_the_same_post_sent_again_goes_on_in_mid_answer_and_after_its_end(stage: Stage, anna: Person) -> None:
    model = tokens(60, key="resent")
    conversation = await stage.chatting.conversation(anna, await stage.chatting.agent(model))
    body = {"message": "Hello?", "conversation_id": conversation, "client_id": "resent"}
    text, cursor = "", None
    async with stage.chatting.http(anna) as http, http.stream("POST", "/chat/stream", json=body) as got:
        async for event in split_events(got.aiter_bytes()):
            named, data = read(event)
            cursor, text = named or cursor, text + str(data.get("content", ""))
            if len(text) > 60:
                break
    *events, done = await raw_post(stage, anna, body, cursor)
    told = [read(event) for event in events]
    assert done == b"data: [DONE]"
    assert "reset" not in [data["type"] for _, data in told]
    assert text + "".join(str(data["content"]) for _, data in told if data["type"] == "token") == said(60)
    assert told[-1][1]["type"] == "complete"
    for since in (told[-1][0], told[-2][0], cursor, None):
        *events, done = await raw_post(stage, anna, body, since)
        kinds = [read(event)[1]["type"] for event in events]
        assert done == b"data: [DONE]"
        assert kinds.count("complete") == (0 if since == told[-1][0] else 1), kinds
    without_id = {"message": "Hello?", "conversation_id": conversation}
    *_, done = await raw_post(stage, anna, without_id, told[-1][0])  # asks nothing
    assert done == b"data: [DONE]"
    assert len(await stage.chatting.provider.calls(model)) == 1
    assert len(await stage.settle(conversation)) == 2


async def test_a_stream_keeps_its_pace_while_anothers_tool_is_slow(stage: Stage, anna: Person) -> None:
    """On the same worker."""
    here = await stage.door_to(min(stage.chatting.serving.workers()))
    slow = await stage.chatting.agent("demo", kind="python:slow_agent:answer")
    fast = await stage.chatting.agent(tokens(40, 0.02))
    ben = await stage.chatting.person()
    hers = await stage.chatting.conversation(anna, slow)
    his = await stage.chatting.conversation(ben, fast)
    her_tab, his_tab = await stage.tab(anna, hers, here.url), await stage.tab(ben, his, here.url)
    her_reply = str((await her_tab.send("Where is my order?")).reply_id)
    await her_tab.until(lambda history: history.of_type("tool_call"))
    began = time.monotonic()
    his_reply = str((await his_tab.send("Hello?")).reply_id)
    await his_tab.until_end(his_reply)
    assert her_tab.history.end_of(her_reply) is None
    assert time.monotonic() - began < SLOW_TOOL_S
    pace = gaps(his_tab.history.token_times())
    print(f"gaps beside a slow tool: p50 {percentile(pace, 0.5):.3f} s, p99 {percentile(pace, 0.99):.3f} s")
    assert percentile(pace, 0.9) < 0.25
    await her_tab.until_end(her_reply)
    assert her_tab.history.text(her_reply) == "Let me look. Here it is."
    await stage.settle(hers, his)


async def test_five_people_at_once_see_their_own_and_nothing_else(stage: Stage) -> None:
    agent = await stage.chatting.agent(tokens(40))
    people = [await stage.chatting.person() for _ in range(5)]
    conversations = [await stage.chatting.conversation(person, agent) for person in people]
    tabs = [await stage.tab(person, where) for person, where in zip(people, conversations, strict=True)]
    asked = await asyncio.gather(*(tab.send(f"I am {number}") for number, tab in enumerate(tabs)))
    for tab, taken, conversation in zip(tabs, asked, conversations, strict=True):
        await tab.until_end(str(taken.reply_id))
        assert tab.history.text(str(taken.reply_id)) == said(40)
        seen = {event["message"]["conversation_id"] for event in tab.history.of_type("message")}
        assert seen == {conversation}
    await stage.settle(*conversations)


async def test_an_answer_is_had_without_a_stream(stage: Stage, anna: Person) -> None:
    """Asked and waited for, or asked and looked up later, or watched from where the question stands."""
    agent = await stage.chatting.agent(tokens(20))
    conversation = await stage.chatting.conversation(anna, agent)
    body = {"message": "Hello?", "conversation_id": conversation, "client_id": "waited"}
    for _ in range(2):
        waited = await stage.chatting.ask(anna, "POST", "/chat/send", json=body)
        assert (waited.status_code, waited.json()["reply"]["content"]) == (200, said(20))
    path = f"/chat/conversations/{conversation}/messages"
    taken = await stage.chatting.ask(anna, "POST", path, json={"content": "And now?", "client_id": "later"})
    assert taken.status_code == 202
    cursor = taken.json()["cursor"]
    *events, done = await raw_post(stage, anna, {"message": "And now?", "client_id": "later"}, cursor)
    told = [read(event)[1] for event in events]
    assert "".join(str(event["content"]) for event in told if event["type"] == "token") == said(20)
    assert done == b"data: [DONE]"
    listed = (await stage.chatting.ask(anna, "GET", path)).json()["data"]
    assert [(row["role"], row["content"]) for row in listed[2:]] == [("user", "And now?"), ("assistant", said(20))]
    assert len(await stage.settle(conversation)) == 4
