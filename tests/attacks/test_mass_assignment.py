"""Fields that are not the caller's to set (RELIABILITY 5: 13): refused by name, on every route that takes a body."""

import itertools
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from tests.attacks.claims import assert_refused
from tests.fixtures.service import PASSWORD, SECRET, Service

from parley.app import create_app
from parley.core.routing import api_routes
from parley.settings import load

FORBIDDEN = {
    "id": "01900000-0000-7000-8000-000000000001",
    "user_id": "01900000-0000-7000-8000-000000000001",
    "role": "admin",
    "status": "complete",
    "seq": 1,
    "rev": 1,
    "attempt": 99,
    "owner": "me",
    "is_admin": True,
    "is_guest": False,
    "is_disabled": False,
    "disabled_at": None,
    "password_hash": "$2b$04$" + "x" * 53,
    "created_at": "2020-01-01T00:00:00Z",
    "session_id": "01900000-0000-7000-8000-000000000001",
    "expires_in": 10**9,
    "__proto__": {"role": "admin"},
    "constructor": "x",
}
# What a route does ask for.
ASKED_FOR = {
    ("POST", "/chat/conversations/{conversation_id}/participants"): {"user_id"},
    ("POST", "/chat/stream"): {"session_id"},
    ("POST", "/chat/send"): {"session_id"},
}


def bare_app() -> FastAPI:
    return create_app(
        load({"PARLEY_AUTH_SECRETS": SECRET, "DATABASE_URL": "postgresql://x/y", "REDIS_URL": "redis://x"})
    )


def routes_with_a_body() -> list[tuple[str, str, bool]]:
    """Return method, path, and whether it takes a form, of every route that reads a body."""
    found = []
    for route in api_routes(bare_app()):
        original = route.original_route
        assert isinstance(original, APIRoute)
        if original.body_field is not None:
            is_form = type(original.body_field.field_info).__name__ == "Form"
            found += [(method, str(route.path), is_form) for method in sorted(original.methods or ())]
    return found


@pytest.fixture
def routes() -> list[tuple[str, str, bool]]:
    """What `routes_with_a_body` returns; found before the loop runs, which building an app would hold."""
    return routes_with_a_body()


def test_there_are_routes_with_a_body() -> None:
    assert ("POST", "/auth/register", False) in routes_with_a_body()
    assert ("POST", "/auth/token", True) in routes_with_a_body()


async def test_no_route_takes_a_field_it_did_not_ask_for(
    service: Service, routes: list[tuple[str, str, bool]], subtests: pytest.Subtests
) -> None:
    admin = await service.with_role("admin")
    headers = {**admin.headers, "Origin": "http://localhost:3000"}
    for (method, path, is_form), (name, value) in itertools.product(routes, FORBIDDEN.items()):
        if name in ASKED_FOR.get((method, path), ()):
            continue
        with subtests.test(route=f"{method} {path}", field=name):
            body: dict[str, Any] = {"data": {name: str(value)}} if is_form else {"json": {name: value}}
            answer = await service.http.request(method, path, headers=headers, **body)

            assert_refused(answer, 422, code="validation_error")
            assert [e["code"] for e in answer.json()["errors"]].count("extra_forbidden") == 1


async def test_nobody_registers_as_more_than_a_user(service: Service) -> None:
    for field in ("role", "is_guest", "id"):
        body = {"email": "eve@shop.example", "password": PASSWORD, field: FORBIDDEN[field]}
        assert_refused(await service.http.post("/auth/register", json=body), 422, code="validation_error")

    assert (await service.register("eve@shop.example")).user["role"] == "user"


async def test_a_field_in_the_address_sets_nothing(service: Service) -> None:
    body = {"email": "eve@shop.example", "password": PASSWORD}
    answer = await service.http.post("/auth/register?role=admin&is_guest=true", json=body)

    assert answer.json()["user"]["role"] == "user"
    assert answer.json()["user"]["is_guest"] is False


async def test_a_guest_stays_without_power_when_it_registers(service: Service) -> None:
    guest = await service.guest()
    body = {"email": "eve@shop.example", "password": PASSWORD}
    answer = await service.http.post("/auth/register", json=body, headers=guest.headers)

    assert answer.json()["user"]["role"] == "user"


async def test_nobody_registers_over_an_account_that_is_registered(service: Service) -> None:
    account = await service.register()
    body = {"email": "eve@shop.example", "password": PASSWORD}

    answer = await service.http.post("/auth/register", json=body, headers=account.headers)

    assert_refused(answer, 409, code="already_registered")
