"""Who is let in to watch, over both transports (RELIABILITY 5: 5, 8, 9, 24): tokens, tickets, origins, ids."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.attacks.test_misused_tickets import aged
from tests.attacks.wires import PAGE, Talk, knock, talk, ticket
from tests.conftest import Start
from tests.fixtures.service import SECRET

from parley.auth.tokens import TicketClaims, TokenCodec

STRANGERS = (
    "https://evil.example",
    "null",
    "",
    "http://localhost.evil.example",
    "http://localhost:3000.evil.example",
    "http://evil.example/http://localhost:3000",
    "http://localhost:3000/",
    "http://localhost:3000@evil.example",
    "HTTP://LOCALHOST:3000",
    "http://localhost:999999",
    "http://localhost:3000 http://evil.example",
    "file://",
    "chrome-extension://localhost",
)
LISTED = "https://shop.example"
LOOKALIKES = (
    "https://shop.example.evil",
    "https://evilshop.example",
    "https://shop.example:8443",
    "http://shop.example",
    "https://SHOP.example",
    "https://shop.example.",
)

Enter = Callable[..., Any]


async def by_socket(chat: Talk, query: str = "", **headers: str) -> int:
    status, answer = await knock(chat.service, f"/chat/ws/{chat.id}{query}", **headers)
    return checked(status, answer.partition(b"\r\n\r\n")[2])


async def by_stream(chat: Talk, query: str = "", **headers: str) -> int:
    path = f"/chat/conversations/{chat.id}/stream{query}"
    async with chat.service.http.stream("GET", path, headers=headers) as answer:
        return checked(answer.status_code, b"" if answer.status_code == 200 else await answer.aread())


def checked(status: int, body: bytes) -> int:
    """Return 200 for who was let in, else the status of a refusal in the one shape."""
    if status in {101, 200}:
        return 200
    assert json.loads(body)["status"] == status
    return status


WAYS_IN: list[Enter] = [by_socket, by_stream]
both_ways = pytest.mark.parametrize("enter", WAYS_IN, ids=["socket", "stream"])


@asynccontextmanager
async def in_talk(start_on_socket: Start, **variables: str) -> AsyncIterator[Talk]:
    async with start_on_socket(**variables) as service:
        await service.parts["readiness"].wait()
        yield await talk(service)


@both_ways
async def test_only_an_access_token_opens(start_on_socket: Start, enter: Enter) -> None:
    async with in_talk(start_on_socket) as chat:
        account = chat.account
        assert await enter(chat) == 401
        sold = await ticket(chat.service, account, origin=None)
        tokens = ("x", "x y", account.refresh_token, sold, account.access_token + "x", account.access_token[:-2])
        for token in tokens:
            assert await enter(chat, Authorization=f"Bearer {token}") == 401, token
        for query in ("?ticket=", "?ticket=x", f"?token={account.access_token}", f"?ticket={account.access_token}"):
            assert await enter(chat, query) == 401, query
        assert await enter(chat, f"?ticket={account.refresh_token}") == 401
        assert await enter(chat, f"?ticket={sold}", Authorization="Bearer x") == 401, "a bad token is not passed over"
        assert await enter(chat, Cookie=f"access_token={account.access_token}") == 401
        assert await enter(chat, **account.headers) == 200


async def test_a_token_in_the_subprotocol_opens_nothing(start_on_socket: Start) -> None:
    """Whatever stands there is echoed by proxies and logs."""
    async with in_talk(start_on_socket) as chat:
        assert await by_socket(chat, **{"Sec-WebSocket-Protocol": f"parley.v1, {chat.account.access_token}"}) == 401
        headers = chat.account.headers | {"Sec-WebSocket-Protocol": "soap, parley.v1, x"}
        status, head = await knock(chat.service, f"/chat/ws/{chat.id}", **headers)
        assert status == 101
        assert b"sec-websocket-protocol: parley.v1\r\n" in head.lower()


@both_ways
async def test_a_strangers_page_is_refused_before_the_accept_whatever_it_brings(
    start_on_socket: Start, enter: Enter, subtests: pytest.Subtests
) -> None:
    async with in_talk(start_on_socket, PARLEY_ALLOWED_ORIGINS=LISTED) as chat:
        sold = await ticket(chat.service, chat.account)
        cookie = {"Cookie": f"session={chat.account.access_token}"}
        for origin in (*STRANGERS, *LOOKALIKES):
            with subtests.test(origin):
                assert await enter(chat, Origin=origin, **chat.account.headers, **cookie) == 403
                assert await enter(chat, f"?ticket={sold}", Origin=origin, **cookie) == 403
        for origin in (LISTED, PAGE):
            assert await enter(chat, Origin=origin, **chat.account.headers) == 200
        assert await enter(chat, f"?ticket={sold}", Origin=PAGE) == 200, "attempts must not use it up"


@both_ways
async def test_in_production_no_loopback_page_is_let_in(start_on_socket: Start, enter: Enter) -> None:
    variables = {"PARLEY_ENVIRONMENT": "production", "PARLEY_ALLOWED_ORIGINS": LISTED, "PARLEY_DEMO": "1"}
    async with in_talk(start_on_socket, **variables, PARLEY_AUTH_BCRYPT_COST="10") as chat:
        assert await enter(chat, Origin=PAGE, **chat.account.headers) == 403
        assert await enter(chat, Origin=LISTED, **chat.account.headers) == 200


@both_ways
async def test_without_an_origin_a_token_opens_and_a_browsers_ticket_does_not(
    start_on_socket: Start, enter: Enter
) -> None:
    async with in_talk(start_on_socket) as chat:
        of_page = await ticket(chat.service, chat.account)
        of_program = await ticket(chat.service, chat.account, origin=None)

        assert await enter(chat, **chat.account.headers) == 200
        assert await enter(chat, f"?ticket={of_page}") == 403
        assert await enter(chat, f"?ticket={of_program}", Origin=PAGE) == 403
        assert await enter(chat, f"?ticket={of_program}") == 200


@both_ways
async def test_a_ticket_opens_once_here_for_its_buyer_and_not_for_long(start_on_socket: Start, enter: Enter) -> None:
    async with in_talk(start_on_socket) as chat:
        other = await talk(chat.service, chat.account)
        sold = await ticket(chat.service, chat.account, conversation_id=chat.id)
        codec = TokenCodec([SECRET], "parley", "parley")
        assert await enter(chat, f"?ticket={aged(codec, sold, 31)}", Origin=PAGE) == 401
        assert await enter(other, f"?ticket={sold}", Origin=PAGE) == 401
        assert await enter(chat, f"?ticket={sold}", Origin="http://localhost:4000") == 403
        assert await enter(chat, f"?ticket={sold[:-1]}{'A' if sold[-1] != 'A' else 'E'}", Origin=PAGE) == 401
        assert await enter(chat, f"?ticket={sold}&ticket=x", Origin=PAGE) in {200, 401}
        sold = await ticket(chat.service, chat.account, conversation_id=chat.id)
        assert await enter(chat, f"?ticket={sold}", Origin=PAGE) == 200
        assert await enter(chat, f"?ticket={sold}", Origin=PAGE) == 401


async def test_of_twenty_connections_with_one_ticket_one_opens(start_on_socket: Start) -> None:
    async with in_talk(start_on_socket) as chat:
        sold = await ticket(chat.service, chat.account)
        ways = [by_socket if number % 2 else by_stream for number in range(20)]
        statuses = await asyncio.gather(*(enter(chat, f"?ticket={sold}", Origin=PAGE) for enter in ways))

    assert sorted(statuses) == [200] + [401] * 19


@both_ways
async def test_a_ticket_gives_no_right_its_buyer_lacks(start_on_socket: Start, enter: Enter) -> None:
    async with in_talk(start_on_socket) as chat:
        eve = await chat.service.register()
        for body in ({}, {"conversation_id": chat.id}):
            sold = await ticket(chat.service, eve, **body)
            assert await enter(chat, f"?ticket={sold}", Origin=PAGE) == 404


async def test_ids_that_are_none_are_refused_before_the_accept(
    start_on_socket: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async with in_talk(start_on_socket) as chat:
        ids = (str(uuid.uuid4()), "x", "%00", "0" * 5000, "*", "{}", chat.id + "%0d%0aX:1", chat.id[:-1])
        for conversation_id in ids:
            status, answer = await knock(chat.service, f"/chat/ws/{conversation_id}", **chat.account.headers)
            assert status == 404, conversation_id
            assert b"\r\nX:1" not in answer
        for path in (f"{chat.id}/", "..%2f..", f"{chat.id}/x"):
            # No such route: 403 is what stands before any accept.
            assert (await knock(chat.service, f"/chat/ws/{path}", **chat.account.headers))[0] == 403
    assert not [record for record in caplog.records if record.levelname == "ERROR"], "a refusal is no error of ours"


async def test_no_ticket_and_no_token_is_in_a_log(start_on_socket: Start, logs: list[dict[str, Any]]) -> None:
    async with in_talk(start_on_socket) as chat:
        sold = await ticket(chat.service, chat.account)
        for enter in WAYS_IN:
            await enter(chat, f"?ticket={sold}&cursor=x", Origin=PAGE)
            await enter(chat, f"?ticket={sold}", Origin=STRANGERS[0])
            await enter(chat, **chat.account.headers)

    told = str(logs)
    for secret in (sold, chat.account.access_token):
        assert secret not in told
        assert secret.rpartition(".")[2] not in told


def test_a_ticket_says_whose_it_is() -> None:
    """So that the tests above attack what is there."""
    assert {"origin", "conversation", "ends"} <= set(TicketClaims.__struct_fields__)
