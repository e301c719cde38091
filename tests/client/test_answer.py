"""Asking over POST: the same request again until the answer is whole; and commands over plain HTTP."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from tests.client.scripted import (
    CONVERSATION,
    QUESTION,
    READY,
    REPLY,
    RESET,
    complete,
    row,
    scripted_http,
    sse,
    token,
)

from parley.client.connection import ParleyClient
from parley.client.credentials import TokenSource
from parley.client.errors import CommandRefused, ConnectionLost, ContentMismatch, Refused
from parley.client.events import RECONNECTING
from parley.client.sign_in import SignIn

URL = "http://parley.test"
BEGIN: tuple[Any, ...] = (
    READY,
    ("k1", {"type": "message", "message": row(QUESTION, "user", "complete", "Hello?", 1)}),
    ("k2", {"type": "message", "message": row(REPLY, "assistant", "streaming", "", 2)}),
    ("k3", token("Hel")),
)
END: tuple[Any, ...] = (("k4", token("lo")), ("k5", complete("Hello")), "data: [DONE]\n\n")
PROBLEM = {"error": {"code": "scripted", "message": "No.", "retryable": False, "param": None}}


@asynccontextmanager
async def talking(
    answers: Sequence[httpx.Response | Exception], heard: list[httpx.Request], credential: str | TokenSource = "t"
) -> AsyncIterator[ParleyClient]:
    async with scripted_http(answers, heard) as http, ParleyClient(URL, token=credential, http=http) as client:
        yield client


async def ask(
    answers: Sequence[httpx.Response | Exception],
) -> tuple[list[str], str | None, list[httpx.Request]]:
    heard: list[httpx.Request] = []
    async with talking(answers, heard) as client:
        async with client.ask("Hello?", conversation_id=CONVERSATION, client_id="c-1") as answer:
            kinds = [event.type async for event in answer]
        return kinds, answer.reply.content if answer.reply else None, heard


def stream(*events: Any) -> httpx.Response:
    return httpx.Response(200, content=sse(*events))


async def test_an_answer_is_whole_at_done() -> None:
    kinds, text, [request] = await ask([stream(*BEGIN, *END)])
    assert kinds == ["ready", "message", "message", "token", "token", "complete"]
    assert text == "Hello"
    assert request.headers["Authorization"] == "Bearer t"
    assert "Last-Event-ID" not in request.headers
    assert json.loads(request.content) == {"message": "Hello?", "client_id": "c-1", "conversation_id": CONVERSATION}


@pytest.mark.parametrize("cut", range(len(BEGIN) + 1))
async def test_a_cut_answer_goes_on_where_it_was(cut: int) -> None:
    parts = (*BEGIN, *END)
    _, text, [first, second] = await ask([stream(*parts[:cut]), stream(READY, *parts[max(cut, 1) :])])
    assert text == "Hello"
    assert first.content == second.content
    cursor = parts[cut - 1][0] if cut > 1 else None
    assert second.headers.get("Last-Event-ID") == cursor


async def test_a_busy_or_absent_server_is_asked_again() -> None:
    busy = httpx.Response(503, headers={"Retry-After": "0"}, json=PROBLEM)
    kinds, text, heard = await ask([httpx.ConnectError("x"), busy, stream(*BEGIN, *END)])
    assert kinds[:2] == [RECONNECTING, RECONNECTING]
    assert text == "Hello"
    assert len({request.content for request in heard}) == 1


async def test_a_torn_answer_is_asked_for_again_from_its_question() -> None:
    torn = stream(*BEGIN, ("k5", complete("Hello")), "data: [DONE]\n\n")
    _, text, [_, second] = await ask([torn, stream(*BEGIN, *END)])
    assert text == "Hello"
    assert "Last-Event-ID" not in second.headers
    with pytest.raises(ContentMismatch):
        await ask([torn, torn])


@pytest.mark.parametrize("status", [403, 404, 422])
async def test_a_refusal_is_final(status: int) -> None:
    with pytest.raises(Refused) as raised:
        await ask([httpx.Response(status, json=PROBLEM)])
    assert raised.value.code == "scripted"


async def test_an_error_told_in_the_stream_says_how_it_goes_on() -> None:
    final = {"type": "error", "request_id": "r", **PROBLEM}
    with pytest.raises(Refused):
        await ask([stream(*BEGIN, final)])
    passing = {**final, "error": {**PROBLEM["error"], "retryable": True}}
    assert (await ask([stream(*BEGIN, passing), stream(*END)]))[1] == "Hello"


async def test_an_expired_token_is_renewed_and_the_stream_goes_on() -> None:
    asked: list[bool] = []

    async def source(is_stale: bool) -> str:
        asked.append(is_stale)
        return f"t{len(asked)}"

    expired = {"type": "error", "request_id": "r", "error": {**PROBLEM["error"], "code": "token_expired"}}
    heard: list[httpx.Request] = []
    answers = [stream(*BEGIN, expired), stream(READY, *END)]
    async with talking(answers, heard, source) as client, client.ask("Hello?") as answer:
        async for _ in answer:
            pass
    assert asked == [False, True]
    assert [request.headers["Authorization"] for request in heard] == ["Bearer t1", "Bearer t2"]


async def test_looking_on_over_sse_comes_back_with_its_cursor() -> None:
    heard: list[httpx.Request] = []
    answers = [
        stream(READY, ("k1", RESET), ("k3", token("Hel"))),
        stream(READY, *END[:2]),
        httpx.Response(404, json=PROBLEM),
    ]
    async with talking(answers, heard) as client, client.watch_sse(CONVERSATION) as watch:
        with pytest.raises(Refused):
            async for _ in watch:
                pass
        reply = watch.state.find(REPLY)
    assert reply is not None
    assert reply.content == "Hello"
    assert [request.headers.get("Last-Event-ID") for request in heard] == [None, "k3", "k5"]


async def test_a_command_is_sent_until_it_is_answered() -> None:
    heard: list[httpx.Request] = []
    answers: list[httpx.Response | Exception] = [
        httpx.ReadError("x"),
        httpx.Response(503, json=PROBLEM),
        httpx.Response(202, json={"reply": {}}),
    ]
    async with talking(answers, heard) as client:
        assert await client.send(CONVERSATION, "Hello?") == {"reply": {}}
    assert len({request.content for request in heard}) == 1
    assert len(heard) == 3


async def test_a_refused_command_says_why() -> None:
    async with talking([httpx.Response(409, json=PROBLEM)], []) as client:
        with pytest.raises(CommandRefused) as raised:
            await client.stop(REPLY)
    assert raised.value.code == "scripted"


TOKENS = {"access_token": "a1", "refresh_token": "r1", "expires_in": 900, "user": {"id": "u"}}


async def test_a_session_is_refreshed_when_its_token_was_refused_or_is_about_to_end() -> None:
    heard: list[httpx.Request] = []
    answers = [
        httpx.Response(200, json={**TOKENS, "expires_in": 30}),
        httpx.Response(200, json={**TOKENS, "access_token": "a2", "refresh_token": "r2"}),
        httpx.Response(200, json={**TOKENS, "access_token": "a3"}),
    ]
    async with scripted_http(answers, heard) as http:
        sign_in = SignIn(URL, http=http)
        await sign_in.as_account("ada@shop.example", "secret")
        assert await sign_in(is_stale=False) == "a2"
        assert await sign_in(is_stale=False) == "a2"
        assert await sign_in(is_stale=True) == "a3"
        await sign_in.close()
    assert [request.url.path for request in heard] == ["/auth/token", "/auth/refresh", "/auth/refresh"]
    assert json.loads(heard[-1].content) == {"refresh_token": "r2"}


async def test_a_session_that_has_ended_is_final_and_a_busy_server_is_not() -> None:
    ended = [httpx.Response(200, json=TOKENS), httpx.Response(401, json=PROBLEM), httpx.Response(401, json=PROBLEM)]
    async with scripted_http(ended, []) as http:
        sign_in = SignIn(URL, http=http)
        await sign_in.as_guest()
        async with ParleyClient(URL, token=sign_in, http=http) as client:
            with pytest.raises(CommandRefused):
                await client.stop(REPLY)
    busy = [httpx.Response(503, json=PROBLEM)]
    async with scripted_http(busy, []) as http:
        with pytest.raises(Refused) as raised:
            await SignIn(URL, http=http).as_guest()
    assert raised.value.is_retryable


async def test_patience_ends() -> None:
    async with talking([httpx.ConnectError("x")] * 50, []) as client:
        answer = client.ask("Hello?")
        answer._following._patience_s = 0.1
        with pytest.raises(ConnectionLost):
            async for _ in answer:
                pass
