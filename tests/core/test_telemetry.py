"""Traces as a collector gets them: one a request, none a chunk, eight a turn, and nothing that says too much."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.attacks.wires import Socket, asking, dialled, port_of, talk, ticket, upgrade, watching
from tests.conftest import Start
from tests.fixtures.collector import Collector, collecting
from tests.fixtures.service import SECRET, Account, Service

from parley.agents.demo.brain import reply
from parley.agents.demo.pieces import Finish, Piece, Text, Usage
from parley.agents.demo.server import ReplyTo, open_demo
from parley.core import telemetry
from parley.core.settings import TelemetrySettings
from parley.core.telemetry import Telemetry, TelemetryMissing, open_telemetry

CALLER = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
QUESTION = "How do I return a jacket?"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@asynccontextmanager
async def traced(
    start_on_socket: Start, collector: Collector, answer: ReplyTo = reply, **variables: str
) -> AsyncIterator[tuple[Service, Account]]:
    """Run the service with a model and this collector; its own beginnings are forgotten."""
    variables = {"PARLEY_OTLP_ENDPOINT": collector.url, "PARLEY_MODEL_API_KEY": "k", **variables}
    async with (
        open_demo(reply=answer, pace_s=0.0) as url,
        start_on_socket(PARLEY_MODEL_BASE_URL=url, **variables) as service,
    ):
        await service.parts["readiness"].wait()
        account = await service.register()
        await collector.until("POST /auth/register")
        collector.spans.clear()
        yield service, account


def hundred_tokens(_: dict[str, Any]) -> Iterator[Piece]:
    yield from (Text(f" token{number}") for number in range(100))
    yield Finish("stop", Usage(10, 100))


async def test_a_turn_with_a_tool_is_eight_spans(start_on_socket: Start, collector: Collector) -> None:
    """Below that of whoever calls, and each by its name and below its cause."""
    async with traced(start_on_socket, collector) as (service, account):
        body = {"message": QUESTION, "client_id": "c-1"}
        async with asking(service, account, body, traceparent=CALLER) as stream:
            await stream.rest()
        await collector.until("POST /chat/stream", "invoke_agent support")

    spans = {span.name: span for span in collector.spans}
    tree = collector.trace_of("POST /chat/stream")
    assert [line for line in tree if "> redis" not in line and "> postgresql" not in line] == [
        "- > POST /chat/stream",
        "POST /chat/stream > invoke_agent support",
        "invoke_agent support > chat gpt-5-mini",
        "invoke_agent support > chat gpt-5-mini",
        "invoke_agent support > execute_tool search_knowledge",
    ]
    assert len(collector.spans) == 8, collector.tree()
    server = spans["POST /chat/stream"]
    assert (server.trace_id, server.parent_id, server.kind) == ("ab" * 16, "cd" * 8, "server")
    assert {span.trace_id for span in collector.spans} == {"ab" * 16}
    assert (server.attributes["http.route"], server.attributes["http.response.status_code"]) == ("/chat/stream", 200)
    assert server.attributes["parley.request.postgresql.calls"] == 2
    assert collector.resource["service.name"] == "parley"


async def test_genai_spans_say_what_the_conventions_ask_for(start_on_socket: Start, collector: Collector) -> None:
    async with traced(start_on_socket, collector) as (service, account):
        told = await (await talk(service, account)).answered(QUESTION)
        await collector.until("invoke_agent support")

    first, last = collector.named("chat gpt-5-mini")
    [tool], [agent] = collector.named("execute_tool search_knowledge"), collector.named("invoke_agent support")
    conversation = told["conversation_id"]
    for span, kind in ((first, "client"), (tool, "internal"), (agent, "internal")):
        assert (span.attributes["gen_ai.conversation.id"], span.kind) == (conversation, kind)
    assert (
        last.attributes.items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5-mini",
            "gen_ai.request.stream": True,
            "gen_ai.response.model": "gpt-5-mini",
            "server.address": "127.0.0.1",
        }.items()
    )
    assert first.attributes["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert last.attributes["gen_ai.response.id"].startswith("chatcmpl-")
    assert 0 < last.attributes["gen_ai.response.time_to_first_chunk"] <= last.seconds
    inputs = [span.attributes["gen_ai.usage.input_tokens"] for span in (first, last)]
    assert agent.attributes["gen_ai.usage.input_tokens"] == sum(inputs) > 0
    assert (tool.attributes["gen_ai.operation.name"], agent.attributes["gen_ai.agent.name"]) == (
        "execute_tool",
        "support",
    )
    assert not any(name.startswith(("gen_ai.input", "gen_ai.output", "gen_ai.system")) for name in last.attributes)


async def test_a_stream_of_a_hundred_tokens_has_no_span_a_chunk(start_on_socket: Start, collector: Collector) -> None:
    async with traced(start_on_socket, collector, hundred_tokens) as (service, account):
        async with asking(service, account, {"message": "Count"}) as stream:
            records = await stream.rest()
        await collector.until("POST /chat/stream", "invoke_agent support")

    assert sum('"token"' in record.data for record in records) > 1
    assert len(collector.spans) <= 6, collector.tree()
    [call] = collector.named("chat gpt-5-mini")
    assert call.attributes["gen_ai.usage.output_tokens"] == 100


async def test_a_socket_is_no_span_and_each_command_is(start_on_socket: Start, collector: Collector) -> None:
    """In a trace of its own, which names the one the socket was opened in."""
    async with traced(start_on_socket, collector, hundred_tokens) as (service, account):
        conversation = await talk(service, account)
        await collector.until("POST /chat/conversations")
        collector.spans.clear()
        async with dialled(port_of(service)) as opened:
            path = f"/chat/ws/{conversation.id}"
            await opened.send(upgrade(path, {**account.headers, "traceparent": CALLER}))
            await opened.reader.readuntil(b"\r\n\r\n")
            for number in range(2):
                await say(opened, f"c-{number}")
            await opened.say("stop", message_id=conversation.id)
            await opened.until("error")
            await opened.say("typing", on=True)
            await opened.is_served()
        await collector.until("WS chat", "WS stop", "invoke_agent support")

    chats, [stop] = collector.named("WS chat"), collector.named("WS stop")
    assert len(chats) == 2
    assert len({span.trace_id for span in (*chats, stop)}) == 3
    assert all(span.links == ["ab" * 16] for span in (*chats, stop))
    assert (stop.attributes["error.type"], stop.is_error) == ("MessageNotFound", False)
    assert {span.name for span in collector.spans if span.kind == "server"} == {"WS chat", "WS stop"}


async def say(opened: Socket, client_id: str) -> None:
    await opened.say("chat", client_id=client_id, content="Count")
    await opened.until("complete")


async def test_beats_sweeps_and_rounds_are_in_no_trace(start_on_socket: Start, collector: Collector) -> None:
    """While somebody watches, and probes and scrapes go on."""
    async with traced(start_on_socket, collector) as (service, account):
        conversation = await talk(service, account)
        await collector.until("POST /chat/conversations")
        collector.spans.clear()
        async with watching(conversation):
            for path in ("/health/live", "/health", "/metrics", "/widget.js"):
                await service.http.get(path)
            await asyncio.sleep(2.5)

    assert collector.tree() == []


async def test_the_next_reply_is_not_part_of_the_request_before_it(
    start_on_socket: Start, collector: Collector, logs: list[dict[str, Any]]
) -> None:
    """A queued reply is begun by the end of another, which may have been somebody else's."""
    async with traced(start_on_socket, collector, hundred_tokens) as (service, account):
        conversation = await talk(service, account)
        path = f"/chat/conversations/{conversation.id}/messages"
        for number in range(2):
            headers = {**account.headers, "X-Request-ID": f"request-{number}"}
            await service.http.post(path, json={"content": "Count"}, headers=headers)
        await asyncio.sleep(0.1)
        await collector.until(f"POST {path.replace(conversation.id, '{conversation_id}')}")
        while len(collector.named("invoke_agent support")) < 2:
            await asyncio.sleep(0.02)

    ended = [line for line in logs if line["event"] == "reply_ended"]
    assert ended[0]["request_id"] == "request-0"
    assert [line.get("request_id") for line in ended] in (["request-0", None], ["request-0", "request-1"])
    first, second = collector.named("invoke_agent support")
    assert first.trace_id != second.trace_id


async def test_the_trace_is_named_in_the_log_and_in_errors(
    start_on_socket: Start, collector: Collector, logs: list[dict[str, Any]]
) -> None:
    async with traced(start_on_socket, collector) as (service, account):
        answer = await service.http.get("/chat/conversations/none", headers={**account.headers, "traceparent": CALLER})
        await service.http.get("/auth/me", headers={**account.headers, "traceparent": "00-broken"})
        await collector.until("GET /auth/me")

    assert answer.json()["trace_id"] == "ab" * 16
    lines = {line["path"]: line for line in logs if line["event"] == "request_served"}
    assert lines["/chat/conversations/none"]["trace_id"] == "ab" * 16
    [broken] = collector.named("GET /auth/me")
    assert (broken.parent_id, lines["/auth/me"]["trace_id"]) == ("", broken.trace_id)


async def test_a_failed_call_of_a_model_is_named_by_its_code(start_on_socket: Start, collector: Collector) -> None:
    variables = {"PARLEY_MODEL_BASE_URL": "http://127.0.0.1:1/v1", "PARLEY_MODEL_RETRIES": "0"}
    async with (
        start_on_socket(PARLEY_OTLP_ENDPOINT=f"{collector.url}/v1/traces", OPENAI_API_KEY="k", **variables) as service,
        asking(service, await service.register(), {"message": "Hello"}) as stream,
    ):
        await stream.rest()
        await collector.until("invoke_agent support")

    for name in ("chat gpt-5-mini", "invoke_agent support"):
        [span] = collector.named(name)
        assert (span.attributes["error.type"], span.is_error) == ("model_unreachable", True)


async def test_what_was_said_is_told_only_where_it_is_asked_for_and_never_as_it_was(
    start_on_socket: Start, collector: Collector
) -> None:
    said = f"{QUESTION} I am ada@shop.example, card 4111 1111 1111 1111, my key is sk-abcdefghijklmnop1234"
    async with traced(start_on_socket, collector, PARLEY_OTLP_CONTENT="1") as (service, account):
        await (await talk(service, account)).answered(said)
        await collector.until("invoke_agent support")

    asked = collector.named("chat gpt-5-mini")[-1].attributes
    told = json.loads(asked["gen_ai.input.messages"])
    question = next(message for message in told if message["role"] == "user")
    assert question["parts"][0]["content"].endswith("I am [hidden], card [hidden], my key is [hidden]")
    assert json.loads(asked["gen_ai.output.messages"])[0]["parts"][0]["content"]
    for canary in (b"ada@shop.example", b"4111 1111", b"sk-abcdef"):
        assert canary not in collector.raw


async def test_headers_reach_the_collector(start_on_socket: Start, collector: Collector) -> None:
    async with traced(start_on_socket, collector, PARLEY_OTLP_HEADERS="X-Team=shop%20floor,api-key=canary"):
        assert (collector.headers["x-team"], collector.headers["api-key"]) == ("shop floor", "canary")


async def test_of_a_share_of_none_only_what_callers_chose_is_kept(start_on_socket: Start, collector: Collector) -> None:
    async with start_on_socket(PARLEY_OTLP_ENDPOINT=collector.url, PARLEY_OTLP_SHARE="0") as service:
        account = await service.register()
        for _ in range(5):
            await service.http.get("/auth/me", headers=account.headers)
        await service.http.get("/auth/me", headers={**account.headers, "traceparent": CALLER})
        await collector.until("GET /auth/me")

    assert {span.trace_id for span in collector.spans} == {"ab" * 16}


@pytest.mark.parametrize("silent", [True, False], ids=["hangs", "refuses"])
async def test_a_collector_that_is_away_costs_requests_nothing(start_on_socket: Start, silent: bool) -> None:
    """Its spans wait in a bounded queue; the end of the service waits for it two seconds at most."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if not silent:
            listener.close()
        async with start_on_socket(PARLEY_OTLP_ENDPOINT=address, PARLEY_OTLP_QUEUE="16") as service:
            account = await service.register()
            slowest_s = 0.0
            for _ in range(60):
                began_at = time.monotonic()
                answer = await service.http.get("/auth/me", headers=account.headers)
                slowest_s = max(slowest_s, time.monotonic() - began_at)
                assert answer.status_code == 200
            ended_at = time.monotonic()
        took_s = time.monotonic() - ended_at

    assert slowest_s < 2  # who waited for it would wait for ten
    assert took_s < 8


def test_without_a_collector_nothing_is_imported() -> None:
    """Neither OpenTelemetry's SDK nor what it sends with."""
    script = (
        "import sys; from parley.app import create_app; from parley.settings import load\n"
        "create_app(load({'PARLEY_DATABASE_URL': 'postgresql://x/y', 'PARLEY_REDIS_URL': 'redis://x',"
        f" 'PARLEY_AUTH_SECRETS': '{SECRET}'}}))\n"
        "print([name for name in sys.modules if name.startswith("
        "('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'opentelemetry.instrumentation', 'google.protobuf',"
        " 'requests'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"


async def test_without_a_collector_a_callers_trace_is_named(service: Service, logs: list[dict[str, Any]]) -> None:
    answer = await service.http.get("/auth/me", headers={"traceparent": CALLER})
    plain = await service.http.get("/auth/me")

    assert answer.json()["trace_id"] == "ab" * 16
    assert "trace_id" not in plain.json()
    assert [line.get("trace_id") for line in logs if line["event"] == "request_served"] == ["ab" * 16, None]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "parley.core.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    settings = TelemetrySettings(endpoint="http://collector:4318")

    with pytest.raises(TelemetryMissing, match=r"pip install 'parley\[otel\]'"):
        open_telemetry(settings, "1")
    assert type(open_telemetry(TelemetrySettings(), "1")) is Telemetry is telemetry.Telemetry


async def test_a_ticket_in_an_address_is_in_no_span(start_on_socket: Start, collector: Collector) -> None:
    async with traced(start_on_socket, collector) as (service, account):
        conversation = await talk(service, account)
        sold = await ticket(service, account)
        path = f"/chat/conversations/{conversation.id}/stream"
        origin = {"Origin": "http://localhost:3000"}
        async with service.http.stream("GET", f"{path}?ticket={sold}&q=canary-query", headers=origin) as opened:
            assert opened.status_code == 200
            await anext(opened.aiter_raw())
        await collector.until("GET /chat/conversations/{conversation_id}/stream")

    for canary in (sold, account.access_token, "canary-query", "127.0.0.1:0"):
        assert canary.encode() not in collector.raw
    [span] = collector.named("GET /chat/conversations/{conversation_id}/stream")
    assert not {"url.query", "url.full", "client.address", "user_agent.original"} & span.attributes.keys()
