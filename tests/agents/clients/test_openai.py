"""The client against a provider that does everything wrong: rows 19-26 of the failure matrix, and number 40."""

import asyncio
import json
import resource
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.agents.clients.conftest import Provide
from tests.agents.clients.provider import asked, settings_of
from tests.fixtures.guards import LoopGuard

from parley.agents.clients.openai import OpenAIClient, open_openai
from parley.agents.clients.port import Finish, ModelRequest, ToolCallDelta, Usage
from parley.core.clock import SystemClock

GOOD = "word0 word1 word2 "
CLOSE_LIMIT_S = 0.25  # issue 3, number 4
RUNS = 200
BUSY_S = 1.5  # more for a machine that is
FDS = Path("/proc/self/fd")


def case(code: str, within_s: float, text: str = "", **script: Any) -> Any:
    name = "-".join(str(value)[:20] for value in script.values())
    return pytest.param(code, within_s, text, script, id=name)


# The deadlines of these calls: first token 0.5 s, silence 0.3 s, whole answer 5 s; half a second for us.
MISBEHAVIOUR = [
    case("model_busy", 0.5, kind="status", status=429, retry_after="1"),
    case("model_broken", 0.5, kind="status", status=500),
    case("model_broken", 0.5, kind="status", status=503),
    case("model_auth", 0.5, kind="status", status=401),
    case("model_auth", 0.5, kind="status", status=403),
    case("model_refused", 0.5, kind="status", status=404),
    case("model_unreachable", 0.5, kind="refuse"),
    case("model_first_token_timeout", 1.0, kind="hang-head"),
    case("model_first_token_timeout", 1.0, kind="hang-first"),
    case("model_first_token_timeout", 1.0, kind="hang-first", ping_s=0.02),
    case("model_silent", 0.8, GOOD, kind="hang-middle"),
    case("model_silent", 0.8, GOOD, kind="hang-middle", ping_s=0.02),
    case("model_silent", 0.8, GOOD, kind="empty-pieces"),
    case("model_silent", 0.8, GOOD, kind="comments"),
    case("model_garbled", 0.5, GOOD, kind="bad-json"),
    case("model_garbled", 0.5, GOOD, kind="bad-utf8"),
    case("model_garbled", 0.5, GOOD, kind="lines", lines=[[]]),
    case("model_garbled", 0.5, GOOD, kind="lines", lines=[17]),
    case("model_garbled", 0.5, GOOD, kind="lines", lines=["null"]),
    case("model_garbled", 0.5, GOOD, kind="lines", lines=[{"choices": [None]}]),
    case("model_garbled", 0.5, GOOD, kind="lines", lines=[{"choices": [{"delta": {"content": [1]}}]}]),
    case("model_garbled", 0.5, GOOD, kind="lines", lines=[{"choices": [{"finish_reason": "because"}]}]),
    case("model_garbled", 0.5, GOOD, kind="lines", lines=[{"choices": [], "usage": {"prompt_tokens": -1}}]),
    case("model_garbled", 0.5, GOOD, kind="lines", lines=["[" * 50_000]),
    case("model_line_too_long", 0.8, GOOD, kind="long-line"),
    case("model_truncated", 0.5, GOOD, kind="truncate-chunked"),
    case("model_truncated", 0.5, GOOD, kind="truncate-close"),
    case("model_truncated", 0.5, GOOD, kind="truncate-done"),
    case("model_truncated", 0.5, GOOD, kind="truncate-reset"),
    case("model_truncated", 0.5, kind="html-stream"),
    case("model_garbled", 0.5, kind="html"),
    case("model_garbled", 0.5, kind="html", content_type="application/json"),
    case("model_garbled", 0.5, kind="whole"),
    case("model_broken", 1.8, kind="html-error"),
    case("model_redirected", 0.5, kind="redirect"),
    case("model_garbled", 0.8, kind="huge-head"),
    case("model_garbled", 0.8, kind="gzip-bomb", status=200),
    case("model_broken", 0.8, kind="gzip-bomb"),
    case("model_broken", 0.5, GOOD, kind="error-event"),
    case("model_busy", 0.5, GOOD, kind="error-event", status=429),
    case("model_garbled", 0.5, GOOD, kind="other-id"),
]


@pytest.mark.parametrize(("code", "within_s", "text", "script"), MISBEHAVIOUR)
async def test_each_misbehaviour_is_a_named_error_within_its_deadline_and_the_next_call_is_well(
    provide: Provide, code: str, within_s: float, text: str, script: dict[str, Any]
) -> None:
    async with provide(total_s=5.0) as provider:
        heard = await provider.hear(asked(**script))
        await provider.settle()
        assert (heard.code, heard.text) == (code, text)
        assert heard.took_s < within_s + BUSY_S
        assert not any(isinstance(event, Finish) for event in heard.events)
        after = await provider.hear(asked())
        assert (after.code, after.text) == (None, "Hello there.")


@pytest.mark.parametrize("script", [{"kind": "tokens", "count": 0, "pause_s": 0.01}, {"kind": "deaf"}])
async def test_an_answer_without_end_ends_at_the_deadline_for_the_whole(
    provide: Provide, script: dict[str, Any]
) -> None:
    async with provide(total_s=0.6) as provider:
        heard = await provider.hear(asked(**script))
        await provider.settle()
        assert heard.code == "model_deadline"
        assert heard.text
        assert 0.5 < heard.took_s < 2.4


async def test_a_flood_ends_at_the_number_of_pieces_and_others_keep_their_pace(provide: Provide) -> None:
    async with provide(max_pieces=20_000) as provider:
        flood = asyncio.create_task(provider.hear(asked(kind="flood")))
        paced = await provider.hear(asked(kind="tokens", count=20, pause_s=0.01))
        heard = await flood
        await provider.settle()
        assert (heard.code, len(heard.events)) == ("model_too_much", 20_001)
        assert paced.code is None
        assert paced.took_s < 1.0


async def test_an_answer_of_too_many_bytes_ends_there(provide: Provide) -> None:
    async with provide(max_bytes=100_000) as provider:
        heard = await provider.hear(asked(kind="flood"))
        assert heard.code == "model_too_much"
        assert heard.text


async def test_a_line_of_ten_megabytes_is_never_held(provide: Provide) -> None:
    async with provide() as provider:
        await provider.hear(asked(kind="long-line"))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(20):
            await provider.hear(asked(kind="long-line"))
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown_kib < 8 * 1024


async def test_a_good_answer_comes_whole_with_its_usage_and_its_connection_is_used_again(provide: Provide) -> None:
    async with provide() as provider:
        for _ in range(3):
            heard = await provider.hear(asked())
            assert heard.text == "Hello there."
            assert heard.events[-1] == Finish("stop", Usage(3, 2))
        assert provider.traffic.opened == 1


async def test_a_finished_answer_is_complete_though_done_never_comes(provide: Provide) -> None:
    async with provide() as provider:
        heard = await provider.hear(asked(kind="hang-finished"))
        await provider.settle()
        assert (heard.code, heard.events[-1]) == (None, Finish("stop", None))


async def test_one_byte_at_a_time_is_the_same_answer(provide: Provide) -> None:
    async with provide() as provider:
        heard = await provider.hear(asked(kind="bytes", text="Good morning, Zoë 🌞."))
        assert (heard.code, heard.text) == (None, "Good morning, Zoë 🌞.")


async def test_tool_calls_come_in_pieces_and_whole(provide: Provide) -> None:
    calls = [{"name": "search_knowledge", "arguments": '{"query":"jacket"}', "id": "a"}, {"name": "x\0", "id": "b"}]
    async with provide() as provider:
        heard = await provider.hear(asked(kind="calls", calls=calls))
        deltas = [event for event in heard.events if isinstance(event, ToolCallDelta)]
        assert [(delta.call_id, delta.name) for delta in deltas if delta.call_id] == [
            ("a", "search_knowledge"),
            ("b", "x"),
        ]
        assert "".join(delta.arguments for delta in deltas if delta.index == 0) == '{"query":"jacket"}'
        assert heard.events[-1] == Finish("tool_calls", Usage(10, 2))


async def test_half_a_character_waits_for_the_other_half(provide: Provide) -> None:
    pieces = [r'"sun \ud83c"', r'"\udf1e and\u0000"', r'" \udf1e \ud83c rain \ud83c"']
    lines = [f'{{"choices":[{{"delta":{{"content":{piece}}}}}]}}' for piece in pieces]
    async with provide() as provider:
        heard = await provider.hear(asked(kind="lines", after=0, lines=lines))
        assert (heard.code, heard.text) == (None, "sun 🌞 and   rain ")


@pytest.mark.parametrize("said", ["1", "60", "3600"])
async def test_the_provider_says_when_to_come_back(provide: Provide, said: str) -> None:
    async with provide() as provider:
        heard = await provider.hear(asked(kind="status", status=429, retry_after=said))
        assert heard.error is not None
        assert (heard.error.retry_after_s, heard.error.is_retryable) == (float(said), True)


async def test_an_empty_account_is_known_also_where_the_provider_repeats_the_question(
    provide: Provide, loop_guard: LoopGuard
) -> None:
    question = "Can I still return this jacket after thirty days?"
    body = json.dumps({"error": {"code": "insufficient_quota", "message": f"no credit to answer {question!r}"}})

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 429 Too Many\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server, provide() as provider:
        settings = settings_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        with loop_guard.paused():
            openai = open_openai(settings)
        provider.client = OpenAIClient(openai, settings, SystemClock())
        heard = await provider.hear(ModelRequest("m", [{"role": "user", "content": question}]))
        await openai.close()
    assert heard.error is not None
    assert (heard.code, heard.error.is_retryable) == ("model_busy", False)
    assert heard.error.detail == "withheld: it repeats what was asked"


async def test_a_redirect_is_not_followed_and_the_key_stays(provide: Provide) -> None:
    async with provide() as other, provide() as provider:
        calls = len(other.traffic.calls)
        for status in (301, 302, 303, 307, 308):
            heard = await provider.hear(asked(kind="redirect", status=status, location=f"{other.url}/chat/completions"))
            assert heard.code == "model_redirected"
        assert len(other.traffic.calls) == calls


async def test_a_key_that_the_provider_echoes_is_not_kept(provide: Provide) -> None:
    async with provide(api_key="sk-very-secret") as provider:
        line = {"error": {"message": "bad key sk-very-secret"}}
        heard = await provider.hear(asked(kind="lines", lines=[line]))
        assert heard.error is not None
        assert "sk-very-secret" not in heard.error.detail


async def test_a_provider_that_nobody_runs_is_unreachable(provide: Provide, loop_guard: LoopGuard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with provide() as provider:
        settings = settings_of(f"http://127.0.0.1:{port}/v1")
        with loop_guard.paused():
            openai = open_openai(settings)
        provider.client = OpenAIClient(openai, settings, SystemClock())
        heard = await provider.hear(asked())
        await openai.close()
        assert heard.code == "model_unreachable"


async def test_a_provider_that_does_not_take_the_connection_is_given_up_in_time(
    provide: Provide, loop_guard: LoopGuard
) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.settimeout(0)
            filler.connect_ex(deaf.getsockname())
        settings = settings_of(f"http://127.0.0.1:{deaf.getsockname()[1]}/v1", connect_timeout_s=0.2, first_token_s=3.0)
        with loop_guard.paused():
            openai = open_openai(settings)
        async with provide() as provider:
            provider.client = OpenAIClient(openai, settings, SystemClock())
            heard = await provider.hear(asked())
        await openai.close()
        for filler in fillers:
            filler.close()
        assert heard.code == "model_connect_timeout"
        assert heard.took_s < 1.0


async def test_a_reader_that_takes_its_time_is_no_silence_of_the_model(provide: Provide) -> None:
    async with provide() as provider:
        texts = 0
        async with provider.client.stream(asked(kind="tokens", count=200, pause_s=0.001)) as batches:
            async for batch in batches:
                texts += len(batch)
                if texts < 5:
                    await asyncio.sleep(0.4)
        assert texts == 201


async def test_leaving_the_block_early_closes_the_connection(provide: Provide) -> None:
    async with provide() as provider:
        async with provider.client.stream(asked(kind="deaf")) as batches:
            async for _ in batches:
                break
        await provider.settle()
        assert provider.newest.gone_at is not None


async def _cancelled(client: OpenAIClient, request: ModelRequest, *, after_s: float) -> float:
    """Cancel a call while it runs; return when."""
    began = asyncio.Event()

    async def run() -> None:
        async with client.stream(request) as batches:
            began.set()
            async for _ in batches:
                pass

    running = asyncio.create_task(run())
    await began.wait()
    await asyncio.sleep(after_s)
    moment = SystemClock().monotonic()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    return moment


async def test_a_cancelled_call_is_closed_at_the_provider_at_once(provide: Provide) -> None:
    kinds: list[dict[str, Any]] = [
        {"kind": "deaf"},
        {"kind": "hang-middle"},
        {"kind": "flood"},
        {"kind": "tokens", "count": 0, "pause_s": 0.01},
    ]
    async with provide(first_token_s=5.0, silence_s=5.0) as provider:
        waits_s: list[float] = []
        for number in range(RUNS):
            moment = await _cancelled(provider.client, asked(**kinds[number % 4]), after_s=0.001 * (number % 10))
            await provider.settle()
            assert provider.newest.gone_at is not None
            waits_s.append(provider.newest.gone_at - moment)
    waits_s.sort()
    p99_s = waits_s[int(RUNS * 0.99) - 1]
    print(f"close seen at the provider: p50 {waits_s[RUNS // 2] * 1e3:.2f} ms, p99 {p99_s * 1e3:.2f} ms of {RUNS} runs")
    assert p99_s < CLOSE_LIMIT_S / 4


async def test_a_call_that_is_cancelled_before_its_answer_is_closed_too(provide: Provide) -> None:
    async with provide(first_token_s=5.0) as provider:
        running = asyncio.create_task(provider.hear(asked(kind="hang-head")))
        async with asyncio.timeout(2):
            while not provider.traffic.under_way:
                await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await provider.settle()
        assert provider.newest.gone_at is not None


@pytest.mark.skipif(not FDS.exists(), reason="the system does not list descriptors")
async def test_many_bad_calls_leave_no_descriptor_behind(provide: Provide) -> None:
    async with provide() as provider:
        await provider.hear(asked())
        before = len(list(FDS.iterdir()))
        scripts = [{"kind": "truncate-close"}, {"kind": "bad-json"}, {"kind": "refuse"}, {"kind": "long-line"}]
        await asyncio.gather(*(provider.hear(asked(**scripts[number % 4])) for number in range(60)))
        await provider.settle()
        assert len(list(FDS.iterdir())) <= before + 4
