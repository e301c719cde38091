"""Turns that meet: a second question in the middle of an answer, stop, regenerate, edit, a person for the model."""

import asyncio
import time

import pytest
from tests.story.chatting import Person, Screen, Stage, percentile, said, tokens

from parley.client import CommandRefused
from parley.client.commanding import Taken

WORKERS = 4
STOPS, STOP_S = 20, 0.25
DUPLICATES = 200
ENDLESS = tokens(0)


async def two_tabs(stage: Stage, person: Person, model: str) -> tuple[str, Screen, Screen]:
    """Return a conversation, and a screen on each of two workers."""
    conversation = await stage.chatting.conversation(person, await stage.chatting.agent(model))
    first, second, *_ = sorted(stage.chatting.serving.workers())
    here, there = await stage.door_to(first), await stage.door_to(second)
    return (
        conversation,
        await stage.tab(person, conversation, here.url),
        await stage.tab(person, conversation, there.url),
    )


def reply_of(taken: Taken) -> str:
    assert taken.reply_id is not None
    return taken.reply_id


async def test_a_second_question_waits_for_its_turn(stage: Stage, anna: Person) -> None:
    """From another worker: told at once as queued, and written when the first has ended."""
    conversation, one, other = await two_tabs(stage, anna, tokens(40))
    first = reply_of(await one.send("First?"))
    await other.until_text(10)
    second = reply_of(await other.send("Second?"))
    await one.until_end(second)
    rows = await stage.settle(conversation)
    assert [row["status"] for row in rows] == ["complete"] * 4
    for tab in (one, other):
        events = tab.history.of_type("token", "complete")
        ended = next(at for at, event in enumerate(events) if event["type"] == "complete")
        assert {event["message_id"] for event in events[: ended + 1]} == {first}
        assert {event["message_id"] for event in events[ended + 1 :]} == {second}
        statuses = [e["message"]["status"] for e in tab.history.of_type("message") if e["message"]["id"] == second]
        assert statuses in (["queued", "streaming"], ["queued"])  # a reader of rows may miss the one in between


async def test_no_more_than_five_wait(stage: Stage, anna: Person) -> None:
    conversation, one, other = await two_tabs(stage, anna, tokens(0))
    first = reply_of(await one.send("First?"))
    await one.until_text(5)
    waiting = [reply_of(await other.send(f"And {number}?")) for number in range(5)]
    with pytest.raises(CommandRefused, match="queue_full"):
        await other.send("One more?")
    for reply in reversed(waiting):
        await other.socket.stop(reply)
    await other.socket.stop(first)
    await one.until_end(first)
    rows = await stage.settle(conversation)
    assert {row["status"] for row in rows if row["role"] == "assistant"} == {"stopped"}


async def test_a_second_question_that_would_not_wait_is_refused(stage: Stage, anna: Person) -> None:
    conversation, one, other = await two_tabs(stage, anna, tokens(40))
    first = reply_of(await one.send("First?"))
    await other.until_text(10)
    with pytest.raises(CommandRefused, match="busy"):
        await other.send("Second?", on_busy="reject")
    body = {"content": "Second?", "on_busy": "reject"}
    refused = await stage.chatting.ask(anna, "POST", f"/chat/conversations/{conversation}/messages", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "busy")
    await one.until_end(first)
    assert len(await stage.settle(conversation)) == 2


async def test_a_second_question_that_interrupts_stops_the_first(stage: Stage, anna: Person) -> None:
    conversation, one, other = await two_tabs(stage, anna, tokens(100))
    first = reply_of(await one.send("First?"))
    await other.until_text(20)
    second = reply_of(await other.send("Second?", on_busy="interrupt"))
    assert (await one.until_end(first))["status"] == "stopped"
    await other.until_end(second)
    rows = await stage.settle(conversation)
    assert [row["status"] for row in rows] == ["complete", "stopped", "complete", "complete"]
    assert said(100).startswith(rows[1]["content"])


async def test_a_stop_from_another_worker_ends_the_reply_where_it_is(stage: Stage, anna: Person) -> None:
    conversation, one, other = await two_tabs(stage, anna, ENDLESS)
    reply = reply_of(await one.send("Tell me everything"))
    await other.until_text(50)
    await other.socket.stop(reply)
    end = await one.until_end(reply)
    await other.until_end(reply)
    rows = await stage.settle(conversation)
    assert (end["status"], rows[1]["status"]) == ("stopped", "stopped")
    assert one.history.text(reply) == other.history.text(reply) == rows[1]["content"]
    again = await stage.chatting.ask(anna, "POST", f"/chat/messages/{reply}/stop")
    assert (again.status_code, again.json()["message"]["status"]) == (200, "stopped")


async def test_a_stop_closes_the_call_to_the_model_at_once(stage: Stage, anna: Person) -> None:
    """From the worker that writes and from another, in turns: P5."""
    model = tokens(0, 0.01, key="stops")
    conversation, one, other = await two_tabs(stage, anna, model)
    told_at, ended_s = [], []
    for number in range(STOPS):
        reply = reply_of(await one.send(f"Tell me everything, {number}"))
        await one.until_text(20, reply)
        told_at.append(time.monotonic())
        await (other if number % 2 else one).socket.stop(reply)
        await other.until_end(reply)
        ended_s.append(other.history.heard[-1].at - told_at[-1])
    calls = await stage.chatting.provider.calls(model)
    closed_s = [call["gone_at"] - at for call, at in zip(calls, told_at, strict=True)]
    for name, took in (("upstream closed", closed_s), ("complete on the other worker", ended_s)):
        figures = ", ".join(f"p{part:.0%} {percentile(took, part) * 1000:.0f} ms" for part in (0.5, 0.9, 0.99))
        print(f"{STOPS} stops, {name}: {figures}")
    assert percentile(closed_s, 0.5) < STOP_S
    assert max(closed_s) < 4 * STOP_S  # of so few the last hundredth is the worst
    await stage.settle(conversation)


async def test_an_answer_is_given_again(stage: Stage, anna: Person) -> None:
    """And the same wish, sent twice, is one."""
    conversation, one, other = await two_tabs(stage, anna, tokens(30))
    first = reply_of(await one.send("Hello?"))
    await other.until_end(first)
    again = await other.socket.regenerate(first, client_id="again")
    twice = await one.socket.regenerate(first, client_id="again")
    assert (twice.reply_id, twice.is_duplicate) == (again.reply_id, True)
    await one.until_end(reply_of(again))
    rows = await stage.settle(conversation)
    assert [row["content"] for row in rows[1:]] == [said(30)] * 2
    assert rows[2]["replaces"] == first


async def test_a_live_answer_that_is_asked_for_again_is_stopped(stage: Stage, anna: Person) -> None:
    conversation, one, other = await two_tabs(stage, anna, tokens(60))
    first = reply_of(await one.send("Hello?"))
    await other.until_text(20)
    again = reply_of(await other.socket.regenerate(first))
    assert (await one.until_end(first))["status"] == "stopped"
    assert (await one.until_end(again))["status"] == "complete"
    await stage.settle(conversation)


async def test_a_question_is_put_in_other_words(stage: Stage, anna: Person) -> None:
    conversation, one, other = await two_tabs(stage, anna, tokens(60))
    asked = await one.send("Where is my jaket?")
    await other.until_text(20)
    edited = await other.socket.edit(asked.message_id, "Where is my jacket?", client_id="edited")
    assert (await one.until_end(reply_of(asked)))["status"] == "stopped"
    await one.until_end(reply_of(edited))
    rows = await stage.settle(conversation)
    questions = [row for row in rows if row["role"] == "user"]
    assert [row["content"] for row in questions] == ["Where is my jaket?", "Where is my jacket?"]
    assert questions[1]["replaces"] == asked.message_id
    with pytest.raises(CommandRefused, match="not_last"):
        await one.socket.edit(asked.message_id, "Once more")


async def test_an_operator_takes_over_and_gives_back(stage: Stage, anna: Person) -> None:
    """In mode human a running reply is stopped and none begins."""
    operator = await stage.chatting.person("operator")
    conversation, one, _ = await two_tabs(stage, anna, tokens(60))
    desk = await stage.tab(operator, conversation)
    running, queued = reply_of(await one.send("Hello?")), reply_of(await one.send("Anybody there?"))
    await desk.until_text(20)
    path = f"/chat/conversations/{conversation}"
    assert (await stage.chatting.ask(operator, "PATCH", path, json={"mode": "human"})).status_code == 200
    for reply in (running, queued):
        assert (await one.until_end(reply))["status"] == "stopped"
    await one.until(lambda history: [e for e in history.of_type("conversation") if e["mode"] == "human"])
    assert (await one.send("Are you a person?")).reply_id is None
    assert (await desk.send("I am.")).reply_id is None
    with pytest.raises(CommandRefused):
        await one.socket.regenerate(queued)
    assert (await stage.chatting.ask(operator, "PATCH", path, json={"mode": "ai"})).status_code == 200
    await one.until_end(reply_of(await one.send("And you?")))
    rows = await stage.settle(conversation)
    assert [(row["role"], row["content"]) for row in rows if row["role"] == "operator"] == [("operator", "I am.")]


async def test_the_model_hands_over_to_a_person(stage: Stage, anna: Person) -> None:
    conversation = await stage.chatting.conversation(anna)
    tab, other = await stage.tab(anna, conversation), await stage.tab_sse(anna, conversation)
    reply = reply_of(await tab.send("I want to talk to a human"))
    await other.until_end(reply)
    await other.until(lambda history: [e for e in history.of_type("conversation") if e["mode"] == "human"])
    assert (await tab.send("Hello?")).reply_id is None
    rows = await stage.settle(conversation)
    assert rows[1]["finish_reason"] == "handoff"


async def test_typing_is_seen_by_the_others(stage: Stage, anna: Person) -> None:
    _, one, other = await two_tabs(stage, anna, tokens(3))
    for number, is_on in enumerate((True, False)):
        await one.socket.type(is_on=is_on)
        await other.until(lambda history, number=number: len(history.of_type("typing")) > number)  # type: ignore[misc]
    assert [(event["on"], event["user"]["id"]) for event in other.history.of_type("typing")] == [
        (True, anna.id),
        (False, anna.id),
    ]
    assert one.history.of_type("typing") == []


async def test_a_rating_is_seen_by_the_others_and_ends_nothing_twice(stage: Stage, anna: Person) -> None:
    conversation, one, other = await two_tabs(stage, anna, tokens(40))
    reply = reply_of(await one.send("Hello?"))
    await other.until_text(10)
    with pytest.raises(CommandRefused, match="not_ended"):
        await other.socket.rate(reply, "up")
    await other.until_end(reply)
    await other.socket.rate(reply, "down", "too long")
    rated = {"rating": "down", "comment": "too long"}
    for tab in (one, other):
        await tab.until(
            lambda history: [e for e in history.of_type("message") if e["message"].get("feedback") == rated]
        )
    await stage.settle(conversation)


async def test_two_hundred_duplicates_are_one_message_and_one_call(stage: Stage, anna: Person) -> None:
    """Over four workers and both transports, all at once: P2."""
    model = tokens(20, key="duplicates")
    conversation = await stage.chatting.conversation(anna, await stage.chatting.agent(model))
    doors = [await stage.door_to(pid) for pid in sorted(stage.chatting.serving.workers())]
    tabs = await asyncio.gather(*(stage.tab(anna, conversation, way.url) for way in doors))
    began = time.monotonic()

    async def over_http(number: int) -> tuple[str, str | None]:
        client = await stage.client(anna, doors[number % WORKERS].url)
        answer = await client.send(conversation, "Hello?", client_id="twin")
        return answer["message"]["id"], answer["reply"]["id"]

    async def over_a_socket(number: int) -> tuple[str, str | None]:
        taken = await tabs[number % WORKERS].send("Hello?", client_id="twin")
        return taken.message_id, taken.reply_id

    async def over_a_stream(number: int) -> tuple[str, str | None]:
        screen = await stage.post(anna, "Hello?", conversation, client_id="twin", url=doors[number % WORKERS].url)
        [asked] = screen.history.asked
        await screen.until_over()
        shown = screen.watch.state.find(str(asked.reply_id))
        assert shown is not None
        assert shown.content == said(20)  # also where it had ended by then, and comes as a whole
        return asked.message_id, asked.reply_id

    ways = (over_a_socket, over_http, over_a_stream, over_a_socket, over_http)
    answers = await asyncio.gather(*(ways[number % len(ways)](number) for number in range(DUPLICATES)))
    print(f"{DUPLICATES} duplicates answered in {time.monotonic() - began:.1f} s")
    assert len(set(answers)) == 1
    [(_, reply)] = set(answers)
    for tab in tabs:
        await tab.until_end(str(reply))
    assert len(await stage.settle(conversation)) == 2
    assert len(await stage.chatting.provider.calls(model)) == 1
