"""Socket tickets, guessed, copied, late and used again (RELIABILITY 5: 5, 8), at the gate and over a real socket."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
import msgspec
import pytest
from fastapi import FastAPI, WebSocket
from jose import jws
from tests.attacks.claims import assert_refused
from tests.conftest import Start
from tests.fixtures.service import SECRET, Account, Service
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from parley.auth.dependencies import AdmittedUser, Gate
from parley.auth.errors import InvalidToken, OriginRefused, TokenExpired
from parley.auth.schemas import Identity
from parley.auth.tokens import AccessClaims, TicketClaims, TokenCodec, key_id
from parley.core.clock import SystemClock

PAGE, OTHER_PAGE, STRANGER = "http://localhost:3000", "http://localhost:4000", "https://evil.example"
CONVERSATION = UUID("01900000-0000-7000-8000-000000000001")
OTHER_CONVERSATION = UUID("01900000-0000-7000-8000-000000000002")


async def buy(
    service: Service, account: Account, origin: str | None = PAGE, conversation: UUID | None = None
) -> httpx.Response:
    headers = {**account.headers, **({"Origin": origin} if origin else {})}
    body = {"conversation_id": str(conversation)} if conversation else {}
    return await service.http.post("/auth/ticket", json=body, headers=headers)


async def ticket(
    service: Service, account: Account, origin: str | None = PAGE, conversation: UUID | None = None
) -> str:
    bought = await buy(service, account, origin, conversation)
    assert bought.status_code == 201, bought.text
    return str(bought.json()["ticket"])


def gate_of(service: Service) -> Gate:
    return service.parts["gate"]


async def test_a_ticket_admits_its_buyer_once(service: Service) -> None:
    account = await service.register()
    sold = await ticket(service, account)
    tickets = gate_of(service).tickets

    identity = await tickets.redeem(sold, PAGE, None)

    assert str(identity.user_id) == account.user["id"]
    with pytest.raises(InvalidToken, match="used"):
        await tickets.redeem(sold, PAGE, None)


async def test_of_twenty_uses_at_once_on_two_workers_one_succeeds(start: Start) -> None:
    async with start() as one, start() as other:
        sold = await ticket(one, await one.register())

        outcomes = await asyncio.gather(
            *(gate_of(worker).tickets.redeem(sold, PAGE, None) for worker in (one, other) for _ in range(10)),
            return_exceptions=True,
        )

    assert sum(isinstance(outcome, Identity) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, InvalidToken) for outcome in outcomes) == 19


async def test_a_used_ticket_stays_used_for_as_long_as_it_is_valid(service: Service, redis_url: str) -> None:
    sold = await ticket(service, await service.register())
    await gate_of(service).tickets.redeem(sold, PAGE, None)

    redis = service.parts["redis"]
    names = [name async for name in redis.scan_iter("parley:ticket:*")]
    assert len(names) == 1
    assert await redis.ttl(names[0]) >= 30


def aged(codec: TokenCodec, sold: str, seconds: int) -> str:
    """Return the same ticket as if it had been bought so long ago."""
    claims = codec.decode(sold, TicketClaims, SystemClock().now().timestamp())
    fields = {name: getattr(claims, name) for name in claims.__struct_fields__}
    return codec.encode(TicketClaims(**{**fields, "iat": claims.iat - seconds, "exp": claims.exp - seconds}))


async def test_a_ticket_is_good_for_30_seconds(service: Service) -> None:
    sold = await ticket(service, await service.register())
    codec, tickets = TokenCodec([SECRET], "parley", "parley"), gate_of(service).tickets

    with pytest.raises(TokenExpired):
        await tickets.redeem(aged(codec, sold, 31), PAGE, None)
    assert isinstance(await tickets.redeem(aged(codec, sold, 25), PAGE, None), Identity)


async def test_a_copied_ticket_opens_nothing_on_another_page(service: Service) -> None:
    sold = await ticket(service, await service.register())
    tickets = gate_of(service).tickets

    for origin in (OTHER_PAGE, STRANGER, "null", None, "", PAGE + "/", PAGE.upper(), PAGE + ".evil"):
        with pytest.raises(OriginRefused):
            await tickets.redeem(sold, origin, None)
    assert isinstance(await tickets.redeem(sold, PAGE, None), Identity), "an attempt must not use it up"


async def test_a_ticket_bought_without_a_page_opens_nothing_on_one(service: Service) -> None:
    sold = await ticket(service, await service.register(), origin=None)

    with pytest.raises(OriginRefused):
        await gate_of(service).tickets.redeem(sold, PAGE, None)


async def test_a_ticket_opens_the_conversation_it_names_and_no_other(service: Service) -> None:
    sold = await ticket(service, await service.register(), conversation=CONVERSATION)
    tickets = gate_of(service).tickets

    for other in (OTHER_CONVERSATION, None):
        with pytest.raises(InvalidToken):
            await tickets.redeem(sold, PAGE, other)
    assert isinstance(await tickets.redeem(sold, PAGE, CONVERSATION), Identity)


async def test_no_guessed_or_damaged_ticket_is_taken(service: Service) -> None:
    account = await service.register()
    sold = await ticket(service, account)
    head, middle, tail = sold.split(".")
    tickets = gate_of(service).tickets

    damaged = ["", "x", "a.b.c", sold[:-4], sold + "AAAA", f"{head}.{middle}.", f"{head}.{tail}.{middle}", "A" * 9000]
    for guess in [*damaged, account.access_token, account.refresh_token, "\ud800", "\0"]:
        with pytest.raises(InvalidToken):
            await tickets.redeem(guess, PAGE, None)


async def test_a_ticket_without_its_type_is_no_ticket(service: Service) -> None:
    codec = TokenCodec([SECRET], "parley", "parley")
    sold = await ticket(service, await service.register())
    claims = codec.decode(sold, TicketClaims, SystemClock().now().timestamp())

    assert claims.ends > claims.exp
    with pytest.raises(InvalidToken):
        await gate_of(service).tickets.redeem(typeless(claims), PAGE, None)


def typeless(claims: TicketClaims | AccessClaims) -> str:
    """Return a token of ours that says everything but what it is for."""
    built = {name: value for name, value in msgspec.to_builtins(claims).items() if name != "typ"}
    signed: str = jws.sign(built, SECRET, {"kid": key_id(SECRET)}, "HS256")
    return signed


async def test_no_ticket_is_sold_to_a_strangers_page(service: Service) -> None:
    account = await service.register()
    for origin in (STRANGER, "null", "http://localhost:3000.evil.example", "http://localhost.evil"):
        assert_refused(await buy(service, account, origin), 403, code="origin_refused")


async def test_without_redis_a_ticket_works_and_the_use_is_counted(start: Start) -> None:
    async with start(PARLEY_REDIS_URL="redis://127.0.0.1:1") as service:
        sold = await ticket(service, await service.register())
        tickets = gate_of(service).tickets

        assert isinstance(await tickets.redeem(sold, PAGE, None), Identity)
        assert tickets.unchecked == 1
        with pytest.raises(OriginRefused):
            await tickets.redeem(sold, OTHER_PAGE, None)


# Over a real socket, on routes that stand for those of the chat.


def add_routes(app: FastAPI) -> None:
    @app.get("/door/{conversation_id}")
    async def door(conversation_id: UUID, user: AdmittedUser) -> str:
        return str(user.user_id)

    @app.websocket("/socket/{conversation_id}")
    async def socket(websocket: WebSocket, user: AdmittedUser) -> None:
        await websocket.accept()
        await websocket.send_text(str(user.user_id))
        await websocket.close()


@asynccontextmanager
async def with_doors(start_on_socket: Start, **variables: str) -> AsyncIterator[Service]:
    async with start_on_socket(**variables) as service:
        assert isinstance(service.app, FastAPI)
        add_routes(service.app)
        yield service


async def through_the_socket(
    service: Service, query: str = "", conversation: UUID = CONVERSATION, **headers: str
) -> str | int:
    """Return who was let in, or the status of the refusal before the accept."""
    url = f"{service.base_url.replace('http', 'ws')}/socket/{conversation}{query}"
    try:
        async with connect(url, additional_headers=headers, proxy=None) as socket:
            return str(await socket.recv())
    except InvalidStatus as refusal:
        return refusal.response.status_code


async def through_the_door(
    service: Service, query: str = "", conversation: UUID = CONVERSATION, **headers: str
) -> str | int:
    answer = await service.http.get(f"/door/{conversation}{query}", headers=headers)
    if answer.status_code != 200:
        assert_refused(answer)
    return str(answer.json()) if answer.status_code == 200 else answer.status_code


Enter = Callable[..., Awaitable[str | int]]
WAYS_IN: list[Enter] = [through_the_socket, through_the_door]


@pytest.mark.parametrize("enter", WAYS_IN, ids=["socket", "door"])
async def test_a_ticket_opens_a_real_connection_once(start_on_socket: Start, enter: Enter) -> None:
    async with with_doors(start_on_socket) as service:
        account = await service.register()
        sold = await ticket(service, account, conversation=CONVERSATION)

        assert await enter(service, f"?ticket={sold}", Origin=STRANGER) == 403
        assert await enter(service, f"?ticket={sold}", Origin=OTHER_PAGE) == 403
        assert await enter(service, f"?ticket={sold}") == 403
        assert await enter(service, f"?ticket={sold}", OTHER_CONVERSATION, Origin=PAGE) == 401
        assert await enter(service, f"?ticket={sold}", Origin=PAGE) == account.user["id"]
        assert await enter(service, f"?ticket={sold}", Origin=PAGE) == 401


@pytest.mark.parametrize("enter", WAYS_IN, ids=["socket", "door"])
async def test_only_an_access_token_or_a_ticket_opens_a_real_connection(start_on_socket: Start, enter: Enter) -> None:
    async with with_doors(start_on_socket) as service:
        account = await service.register()
        sold = await ticket(service, account, origin=None)

        assert await enter(service) == 401
        for query in ("?ticket=", "?ticket=x", f"?token={account.access_token}", f"?ticket={account.access_token}"):
            assert await enter(service, query) == 401, query
        assert await enter(service, Authorization=f"Bearer {account.refresh_token}") == 401
        assert await enter(service, Authorization=f"Bearer {sold}") == 401
        assert await enter(service, f"?ticket={sold}", Authorization="Bearer x") == 401
        assert await enter(service, **account.headers) == account.user["id"]
        for origin in (STRANGER, "null", "http://localhost.evil", "http://LOCALHOST", PAGE + ",http://localhost"):
            assert await enter(service, Origin=origin, **account.headers) == 403, origin


@pytest.mark.parametrize("enter", WAYS_IN, ids=["socket", "door"])
async def test_a_ticket_dies_with_the_session_that_bought_it(start_on_socket: Start, enter: Enter) -> None:
    async with with_doors(start_on_socket) as service:
        account = await service.register()
        sold = await ticket(service, account)
        await service.http.post("/auth/logout", headers=account.headers)

        assert await enter(service, f"?ticket={sold}", Origin=PAGE) == 401


async def test_of_twenty_sockets_with_one_ticket_one_opens(start_on_socket: Start) -> None:
    async with with_doors(start_on_socket) as service:
        account = await service.register()
        sold = await ticket(service, account)

        outcomes = await asyncio.gather(
            *(through_the_socket(service, f"?ticket={sold}", uuid.uuid4(), Origin=PAGE) for _ in range(20))
        )

    assert outcomes.count(account.user["id"]) == 1
    assert outcomes.count(401) == 19


async def test_a_socket_is_refused_in_the_one_shape(start_on_socket: Start) -> None:
    async with with_doors(start_on_socket) as service:
        url = f"{service.base_url.replace('http', 'ws')}/socket/{CONVERSATION}"
        with pytest.raises(InvalidStatus) as refusal:
            async with connect(url, proxy=None):
                pass
    answer = refusal.value.response
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert b'"code":"unauthorized"' in (answer.body or b"")
