"""The scripted provider itself: every script can be asked for, none takes the server down, and it keeps its record."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from parley.agents.demo.pieces import Finish, Piece, Text, ToolCall, Usage
from parley.agents.demo.script import KINDS, NoSuchScript, Script, find_script
from parley.agents.demo.server import open_demo

PATIENCE_S, LONG_S = 0.3, 4.0  # for what never ends, and for what does on a busy machine
BODY = {"model": "demo", "messages": [{"role": "user", "content": "Hello?"}]}
ENDLESS = {"hang-head", "hang-first", "hang-middle", "hang-finished", "empty-pieces", "comments", "flood", "deaf"}


def reply(request: dict[str, Any]) -> Iterator[Piece]:
    yield Text("You said ")
    yield Text(request["messages"][-1]["content"])
    yield ToolCall("call_1", "search_knowledge", '{"query":"hello"}')
    yield Finish("tool_calls", Usage(7, 5))


@pytest_asyncio.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with open_demo(reply=reply) as url, httpx.AsyncClient(base_url=url, timeout=5, verify=False) as client:
        yield client


async def ask(http: httpx.AsyncClient, **changed: Any) -> httpx.Response:
    return await http.post("/chat/completions", json={**BODY, **changed})


def events(answer: httpx.Response) -> list[Any]:
    *told, done = [event.removeprefix("data: ") for event in answer.text.split("\n\n") if event]
    assert done == "[DONE]"
    return [json.loads(event) for event in told]


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_each_script_can_be_asked_for_and_the_server_goes_on(http: httpx.AsyncClient, kind: str) -> None:
    size = "?size_bytes=1000000" if kind in {"long-line", "huge-head", "gzip-bomb", "huge-call", "html-error"} else ""
    size = "?count=5" if kind == "tokens" else size
    try:
        async with asyncio.timeout(PATIENCE_S if kind in ENDLESS else LONG_S):
            await ask(http, model=f"script-{kind}{size}", stream=True)
    except TimeoutError:
        assert kind in ENDLESS
    except httpx.HTTPError:
        assert kind in {"refuse", "huge-head", "truncate-chunked", "truncate-reset", "gzip-bomb"}
    else:
        assert kind not in ENDLESS
    answer = await ask(http)
    assert answer.json()["choices"][0]["message"]["content"] == "You said Hello?"


async def test_an_ordinary_answer_streams_in_the_form_of_the_protocol(http: httpx.AsyncClient) -> None:
    told = events(await ask(http, stream=True, stream_options={"include_usage": True}))
    assert {event["id"] for event in told} == {told[0]["id"]}
    text = "".join(c["delta"].get("content") or "" for event in told for c in event["choices"])
    assert text == "You said Hello?"
    parts = [c["delta"]["tool_calls"][0] for e in told for c in e["choices"] if c["delta"].get("tool_calls")]
    assert (parts[0]["id"], parts[0]["function"]["name"]) == ("call_1", "search_knowledge")
    assert "".join(part["function"]["arguments"] for part in parts) == '{"query":"hello"}'
    assert told[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert told[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    assert "usage" not in events(await ask(http, stream=True))[-1]


async def test_an_ordinary_answer_comes_whole_where_no_stream_is_asked_for(http: httpx.AsyncClient) -> None:
    answer = (await ask(http)).json()
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"query":"hello"}'
    assert answer["usage"]["total_tokens"] == 12


async def test_the_header_beats_the_model_and_carries_everything(http: httpx.AsyncClient) -> None:
    script = {"kind": "status", "status": 429, "retry_after": "7"}
    answer = await http.post("/chat/completions", json=BODY, headers={"x-demo-script": json.dumps(script)})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["code"] == "scripted_429"


async def test_a_script_may_misbehave_only_some_times(http: httpx.AsyncClient) -> None:
    statuses = [(await ask(http, model="script-status?times=2&key=a")).status_code for _ in range(4)]
    assert statuses == [500, 500, 200, 200]


async def test_calls_are_put_on_the_wire_as_they_are_written(http: httpx.AsyncClient) -> None:
    calls = [{"name": "search_knowledge", "arguments": '{"query": "../../other-shop', "id": "x' OR 1=1"}]
    script = {"kind": "calls", "calls": calls}
    answer = await http.post("/chat/completions", json=BODY, headers={"x-demo-script": json.dumps(script)})
    parts = [c["delta"]["tool_calls"][0] for e in events(answer) for c in e["choices"] if c["delta"].get("tool_calls")]
    assert parts[0]["id"] == "x' OR 1=1"
    assert "".join(part["function"]["arguments"] for part in parts) == '{"query": "../../other-shop'


async def test_the_record_tells_who_left_and_when(http: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await http.post("/chat/completions", json={**BODY, "model": "script-hang-head"}, timeout=0.1)
    await asyncio.sleep(0.05)
    stats = (await http.get(f"http://{http.base_url.host}:{http.base_url.port}/stats")).json()
    call = stats["calls"][0]
    assert (call["script"], call["outcome"]) == ("hang-head", "abandoned")
    assert call["began_at"] < call["gone_at"] <= stats["now"]
    assert stats["under_way"] == 1


async def test_what_is_no_request_is_refused_in_the_form_of_the_protocol(http: httpx.AsyncClient) -> None:
    assert (await http.post("/chat/completions", content=b"{")).status_code == 400
    assert (await http.post("/chat/completions", json=[])).status_code == 400
    assert (await ask(http, model="script-nonsense")).json()["error"]["code"] == "no_such_script"
    assert (await http.get("/nothing")).json()["error"]["code"] == "not_found"
    assert [model["id"] for model in (await http.get("/models")).json()["data"]] == ["demo"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", b"431"),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n", b"413"),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"413"),
        (b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", b"411"),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 5\r\n\r\n[[[[[", b"400"),
    ],
)
async def test_what_the_server_takes_in_is_bounded(http: httpx.AsyncClient, sent: bytes, status: bytes) -> None:
    reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    writer.write(sent)
    async with asyncio.timeout(2):
        assert (await reader.readline()).split()[1] == status
    writer.close()
    await writer.wait_closed()


def test_a_script_is_found_in_header_or_model() -> None:
    assert find_script({}, "gpt-5-mini") is None
    assert find_script({}, "script-hang-middle?ping_s=0.1&after=7") == Script("hang-middle", ping_s=0.1, after=7)
    assert find_script({"x-demo-script": '{"kind":"flood"}'}, "script-text") == Script("flood")


@pytest.mark.parametrize(
    "text", ['{"kind":"nonsense"}', "{", '{"kind":"text","unknown":1}', '{"kind":"status","status":"x"}']
)
def test_what_is_no_script_is_refused(text: str) -> None:
    with pytest.raises(NoSuchScript):
        find_script({"x-demo-script": text}, "")
