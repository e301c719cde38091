"""What the chat counts of itself, on a real socket: each thing once, by its right name, and a torn text is noticed."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from tests.attacks.test_slow_readers import come_in
from tests.attacks.wires import ENDLESS, Talk, chatting, knock, port_of, socket_to, talk, watching
from tests.conftest import Start
from tests.core.test_metrics import scrape
from tests.fixtures.metrics import Scrape
from tests.fixtures.service import Service

from parley.agents.demo.brain import reply
from parley.agents.demo.server import open_demo
from parley.chat import ending, statements

PATIENCE_S = 10.0


async def counted_until(service: Service, holds: Callable[[Scrape], bool]) -> Scrape:
    """Return the first scrape of which this holds: tallies and states are told once a second."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds(found := await scrape(service)):
            await asyncio.sleep(0.05)
    return found


async def test_a_text_that_differs_from_its_row_is_counted_and_logged(
    start_on_socket: Start, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]]
) -> None:
    """By the worker that is watching, whoever wrote it."""
    end_reply = statements.end_reply

    async def spoiled(*arguments: Any, content: str, **options: Any) -> Any:
        return await end_reply(*arguments, content=content.replace("right", "wrong"), **options)

    monkeypatch.setattr(ending, "end_reply", spoiled)
    async with chatting(start_on_socket) as service:
        conversation = await talk(service)
        async with watching(conversation) as socket:
            await conversation.answered("All is well")
            assert (await scrape(service))["chat_integrity_mismatches_total"] == 0
            asked = await conversation.ask("All is right")
            await socket.until("complete", message_id=asked["reply"]["id"])
        found = await scrape(service)

    assert found["chat_integrity_mismatches_total"] == 1
    [line] = [line for line in logs if line["event"] == "reply_text_differs"]
    assert (line["conversation_id"], line["message_id"]) == (conversation.id, asked["reply"]["id"])


async def come_back(conversation: Talk, cursor: str) -> None:
    async with watching(conversation, query=f"?cursor={quote(cursor)}"):
        pass


async def test_cursors_are_counted_by_what_came_of_them(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        conversation, other = await talk(service), await talk(service)
        first = await conversation.ask("One")
        await conversation.answered("Two")
        await come_back(conversation, first["cursor"])
        await come_back(conversation, "nonsense")
        status, _ = await knock(
            service, f"/chat/ws/{other.id}?cursor={quote(first['cursor'])}", **other.account.headers
        )
        found = await scrape(service)

    assert status == 404
    told = {result: found.sum("chat_resumes_total", result=result) for result in ("continued", "reset", "refused")}
    assert told == {"continued": 1, "reset": 1, "refused": 1}
    # Two questions, two replies and their ends, and the title that the first question gave.
    assert (found["chat_resume_gap_count"], found["chat_resume_gap_sum"] >= 7) == (1, True)


async def test_a_stop_a_handoff_and_a_refusal_are_counted(start_on_socket: Start) -> None:
    async with chatting(start_on_socket, pace_s=0.01, PARLEY_CHAT_SOCKETS_PER_USER="1") as service:
        conversation = await talk(service)
        asked = await conversation.ask(f"{ENDLESS} 5")
        async with watching(conversation) as socket:
            await socket.until("token")
            await counted_until(service, lambda found: found["chat_live_replies"] == 1)
            path = f"/chat/ws/{conversation.id}"
            assert (await knock(service, path, **conversation.account.headers))[0] == 429
            await socket.say("stop", message_id=asked["reply"]["id"])
            await socket.until("complete", status="stopped")
        answer = await service.http.patch(
            f"/chat/conversations/{conversation.id}", json={"mode": "human"}, headers=conversation.account.headers
        )
        assert answer.status_code == 200, answer.text
        found = await counted_until(
            service, lambda found: not found["chat_live_replies"] and found["chat_inter_token_seconds_count"] > 1
        )

    assert found.sum("chat_turns_total", outcome="stopped") == 1
    assert (found["chat_stop_latency_seconds_count"], found["chat_stop_latency_seconds_sum"] < 1) == (1, True)
    assert found.sum("chat_handoffs_total", reason="person") == 1
    assert found.sum("chat_limits_hit_total", limit="sockets_per_user") == 1
    assert found.sum("chat_ws_refused_total", status="429") == 1
    assert found.sum("llm_requests_total", outcome="cancelled") == 1


async def test_a_viewer_who_does_not_read_is_counted_when_dropped(start_on_socket: Start) -> None:
    async with chatting(
        start_on_socket, PARLEY_CHAT_SEND_DEADLINE_S="0.3", PARLEY_SEND_BUFFER_BYTES="16384"
    ) as service:
        conversation = await talk(service)
        peer = await come_in(port_of(service), conversation, 1)
        async with socket_to(port_of(service), conversation.id, headers=conversation.account.headers) as reader:
            asked = await conversation.ask(f"{ENDLESS} 900")
            try:
                found = await counted_until(service, lambda found: found["chat_ws_closed_total"] == 1)
                assert found["chat_slow_consumer_drops_total"] == 1
            finally:
                peer.close()
                await reader.say("stop", message_id=asked["reply"]["id"])
        await counted_until(service, lambda found: found["chat_live_replies"] == 0)


async def test_tools_are_counted_by_name(start_on_socket: Start) -> None:
    """With the demo model, which looks into the sample articles."""
    async with (
        open_demo(reply=reply) as url,
        start_on_socket(PARLEY_MODEL_BASE_URL=url, PARLEY_MODEL_API_KEY="k", PARLEY_MODEL_NAME="demo") as service,
    ):
        conversation = await talk(service)
        await conversation.answered("How do I return a jacket?")
        found = await scrape(service)

    assert found.sum("chat_tool_calls_total", tool="search_knowledge", outcome="ok") == 1
    assert found.sum("chat_tool_call_duration_seconds_count", tool="search_knowledge") == 1
    assert found.sum("llm_requests_total", model="demo", outcome="ok") == 2
    assert found.sum("llm_tokens_total", model="demo", kind="input") > 0


async def test_what_an_admin_reads_is_counted(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        admin = await service.with_role("admin")
        listed = await service.http.get("/chat/conversations", headers=admin.headers)
        assert listed.status_code == 200
        found = await scrape(service)

    assert found.sum("audit_events_total", action="conversations_listed") == 1
