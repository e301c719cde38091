"""Ids of others (RELIABILITY 5: 12, 14): every route of chat x strangers x every id, answered as an absent id is."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from tests.attacks.claims import assert_refused, assert_silent_about
from tests.attacks.test_nothing_is_echoed import mounted_app
from tests.chat.conftest import Rows, ask, make
from tests.conftest import Start
from tests.fixtures.service import Account, Service
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from parley.chat.cursor import Position, cursor_prefix, encode_cursor

CANARY = "canary-9c1e"
C, M = "/chat/conversations/{conversation_id}", "/chat/messages/{message_id}"


@dataclass(frozen=True)
class Ids:
    """What somebody names."""

    conversation_id: str
    message_id: str
    user_id: str
    cursor: str


@dataclass(frozen=True)
class Attempt:
    """One way to use an id that is not one's own."""

    options: dict[str, Any]
    path: dict[str, str] | None = None


Make = Callable[[Ids, Ids], list[Attempt]]


def plain(body: dict[str, Any] | None = None) -> Make:
    """The ids stand in the address."""
    return lambda _theirs, _own: [Attempt({"json": body} if body is not None else {})]


def places(theirs: Ids, own: Ids) -> list[Attempt]:
    """The ids stand in the address, or say from where on one's own list is read."""
    of_own = {"conversation_id": own.conversation_id}
    return [Attempt({})] + [Attempt({"params": {way: theirs.message_id}}, of_own) for way in ("after", "before")]


def invitations(theirs: Ids, own: Ids) -> list[Attempt]:
    return [Attempt({"json": {"user_id": user_id}}) for user_id in (theirs.user_id, own.user_id)]


def watching(theirs: Ids, own: Ids) -> list[Attempt]:
    of_own = {"conversation_id": own.conversation_id}
    return [
        Attempt({}),
        Attempt({"params": {"cursor": theirs.cursor}}),
        Attempt({"params": {"cursor": theirs.cursor}}, of_own),
        Attempt({"headers": {"Last-Event-ID": theirs.cursor}}, of_own),
    ]


def asking(theirs: Ids, own: Ids) -> list[Attempt]:
    said: dict[str, Any] = {"message": "Hello"}
    names = [{"conversation_id": theirs.conversation_id}, {"session_id": theirs.conversation_id}]
    return [Attempt({"json": {**said, **name, **more}}) for name in names for more in ({}, {"client_id": "c-1"})]


def asking_and_watching(theirs: Ids, own: Ids) -> list[Attempt]:
    bodies: list[dict[str, Any]] = [{"message": "Hello"}, {"message": "Hello", "conversation_id": own.conversation_id}]
    ways: list[dict[str, Any]] = [
        {"headers": {"Last-Event-ID": theirs.cursor}},
        {"params": {"cursor": theirs.cursor}},
    ]
    return asking(theirs, own) + [Attempt({"json": body, **way}) for body in bodies for way in ways]


# A route that is not here fails the first test.
ROUTES: dict[tuple[str, str], Make] = {
    ("GET", "/chat/conversations"): lambda theirs, _: [
        Attempt({"params": {way: theirs.conversation_id}}) for way in ("after", "before")
    ],
    ("GET", C): plain(),
    ("PATCH", C): plain({"title": "mine"}),
    ("DELETE", C): plain(),
    ("POST", f"{C}/complete"): plain(),
    ("GET", f"{C}/messages"): places,
    ("POST", f"{C}/messages"): plain({"content": "Hello"}),
    ("GET", f"{C}/stream"): watching,
    ("GET", f"{C}/participants"): plain(),
    ("POST", f"{C}/participants"): invitations,
    ("DELETE", f"{C}/participants/{{user_id}}"): plain(),
    ("POST", f"{M}/feedback"): plain({"rating": "up"}),
    ("POST", f"{M}/stop"): plain(),
    ("POST", f"{M}/regenerate"): plain({}),
    ("POST", "/chat/stream"): asking_and_watching,
    ("POST", "/chat/send"): asking,
}
NAMES_NOTHING = {("POST", "/chat/conversations")}
SOCKETS = {"/chat/ws/{conversation_id}"}
# These would begin a reply or never end; that the ids below are real is shown by all others.
NOT_SHOWN = {
    ("GET", f"{C}/stream"),
    ("POST", f"{C}/messages"),
    ("POST", "/chat/stream"),
    ("POST", "/chat/send"),
    ("POST", f"{M}/regenerate"),
}


def chat_routes(app: FastAPI, kind: type) -> set[tuple[str, str]]:
    """Return method and path of every route of chat."""
    found = set()
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, kind) and str(route.path).startswith("/chat/"):
            methods = getattr(route.original_route, "methods", None) or {"GET"}
            found |= {(method, str(route.path)) for method in methods}
    return found


async def test_every_route_of_chat_is_attacked(service: Service) -> None:
    app = mounted_app(service)

    assert chat_routes(app, APIRoute) == set(ROUTES) | NAMES_NOTHING
    assert chat_routes(app, APIWebSocketRoute) == {("GET", path) for path in SOCKETS}


async def world_of(service: Service, rows: Rows, account: Account) -> Ids:
    """A conversation with a question, an ended answer and somebody who was invited."""
    guest = await service.guest()
    made = await make(service, account, title=CANARY)
    await ask(service, account, "POST", f"/{made['id']}/participants", json={"user_id": guest.user["id"]})
    question = await rows.say(made["id"], CANARY, author_id=account.user["id"])
    values = {"status": "complete", "attempt": 1, "question_id": question}
    reply = await rows.say(made["id"], CANARY, role="assistant", **values)
    return Ids(made["id"], reply, guest.user["id"], cursor_of(service, made["id"]))


def cursor_of(service: Service, conversation_id: str) -> str:
    timeline = service.parts["database"].timeline
    return encode_cursor(cursor_prefix(timeline, UUID(conversation_id)), Position())


def absent(service: Service) -> Ids:
    conversation_id = str(uuid.uuid4())
    return Ids(conversation_id, str(uuid.uuid4()), str(uuid.uuid4()), cursor_of(service, conversation_id))


async def attack(service: Service, caller: Account, route: tuple[str, str], ids: Ids, attempt: Attempt) -> Any:
    method, path = route
    options = {**attempt.options, "headers": {**caller.headers, **attempt.options.get("headers", {})}}
    return await service.http.request(method, path.format(**(vars(ids) | (attempt.path or {}))), **options)


@pytest_asyncio.fixture
async def rows(database_url: str) -> Any:
    """This test's database."""
    connection = await asyncpg.connect(database_url)
    yield Rows(connection)
    await connection.close()


async def test_ids_of_others_answer_as_absent_ones(service: Service, rows: Rows, subtests: pytest.Subtests) -> None:
    ada = await service.register()
    strangers = {"user": await service.register(), "guest": await service.guest()}
    for who, stranger in strangers.items():
        own = await world_of(service, rows, stranger)
        for route, make_attempts in ROUTES.items():
            theirs, none = await world_of(service, rows, ada), absent(service)
            for foreign, unknown in zip(make_attempts(theirs, own), make_attempts(none, own), strict=True):
                with subtests.test(who, route=" ".join(route), attempt=str(foreign.options)[:80]):
                    answers = [
                        await attack(service, stranger, route, theirs, foreign),
                        await attack(service, stranger, route, none, unknown),
                    ]
                    for answer in answers:
                        assert_refused(answer, 404)
                        assert_silent_about(answer, CANARY, theirs.conversation_id, theirs.message_id)
                    first, second = ({**answer.json(), "request_id": "", "instance": ""} for answer in answers)
                    assert first == second
        assert await rows.fetch("SELECT count(*) FROM messages WHERE author_id = $1", stranger.user["id"]) == 1


async def test_the_same_ids_are_good_for_their_owner(service: Service, rows: Rows, subtests: pytest.Subtests) -> None:
    """Otherwise the test above would find nothing anywhere."""
    ada = await service.register()
    for route, make_attempts in ROUTES.items():
        if route in NOT_SHOWN:
            continue
        theirs = await world_of(service, rows, ada)
        with subtests.test(route=" ".join(route)):
            answer = await attack(service, ada, route, theirs, make_attempts(theirs, theirs)[0])
            assert answer.is_success, answer.text


async def test_whoever_was_removed_is_a_stranger_again(service: Service, rows: Rows, subtests: pytest.Subtests) -> None:
    ada, bob = await service.register(), await service.register()
    theirs, own = await world_of(service, rows, ada), await world_of(service, rows, bob)
    people = f"/{theirs.conversation_id}/participants"
    await ask(service, ada, "POST", people, json={"user_id": bob.user["id"]})
    assert (await ask(service, bob, "GET", people)).status_code == 200
    await ask(service, ada, "DELETE", f"{people}/{bob.user['id']}")
    for route, make_attempts in ROUTES.items():
        for attempt in make_attempts(theirs, own):
            with subtests.test(route=" ".join(route), attempt=str(attempt.options)[:80]):
                assert_refused(await attack(service, bob, route, theirs, attempt), 404)


async def test_nobody_without_a_token_gets_that_far(service: Service, rows: Rows) -> None:
    theirs = await world_of(service, rows, await service.register())
    nobody = Account({}, "", "")
    for method, path in set(ROUTES) | NAMES_NOTHING:
        answer = await service.http.request(method, path.format(**vars(theirs)), json={"message": "a", "content": "a"})
        assert_refused(answer, 401)
        answer = await attack(service, nobody, (method, path), theirs, Attempt({}))
        assert_refused(answer, 401)


async def test_sockets_of_others_are_refused_before_the_accept(start_on_socket: Start, rows: Rows) -> None:
    async with start_on_socket() as service:
        ada, eve = await service.register(), await service.register()
        theirs, none, own = await world_of(service, rows, ada), absent(service), await world_of(service, rows, eve)
        cursors = (f"{own.conversation_id}?cursor={theirs.cursor}", f"{own.conversation_id}?cursor={none.cursor}")
        for path in (theirs.conversation_id, none.conversation_id, *cursors, "not-an-id"):
            url = f"{service.base_url.replace('http', 'ws')}/chat/ws/{path}"
            with pytest.raises(InvalidStatus) as refused:
                async with connect(url, additional_headers=eve.headers, subprotocols=[Subprotocol("parley.v1")]):
                    pass
            assert refused.value.response.status_code == 404
            assert CANARY.encode() not in refused.value.response.body
