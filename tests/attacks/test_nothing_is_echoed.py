"""Refusals (RELIABILITY 5: 19): no value that was sent, no password, no path, no SQL, no traceback."""

import inspect
import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
import pytest
from fastapi import FastAPI
from pydantic import Field
from tests.attacks.claims import INSIDES, assert_refused, assert_silent_about
from tests.conftest import Start
from tests.fixtures.service import PASSWORD, Service

from parley.core.limits import General
from parley.core.routing import api_router
from parley.core.schemas import Command

CANARY = "canary-9c1e-Passw0rd"
BODIES: list[Any] = [
    {"email": CANARY, "password": CANARY, "name": CANARY + "\n"},
    {"email": f"{CANARY}@shop.example", "password": CANARY + "x" * 80},
    {"email": {"a": CANARY}, "password": [CANARY]},
    {"email": f"{CANARY}@shop.example", "password": "short7" + CANARY[:1]},
    {"refresh_token": {"x": CANARY}},
    {"refresh_token": CANARY * 20},
    {"current_password": CANARY + "\0", "new_password": CANARY + "\0"},
    {"conversation_id": CANARY},
    {"conversation_id": [CANARY]},
    {"name": CANARY + "\u2028x"},
    {CANARY + " as a name": 1, f"<b>{CANARY}</b>": 2},
    [CANARY],
    CANARY,
]
PATHS = ["register", "token", "refresh", "logout", "logout-everywhere", "password", "guest", "ticket"]


async def test_no_refusal_repeats_a_value(service: Service, subtests: pytest.Subtests) -> None:
    account = await service.register()
    headers = {**account.headers, "Origin": "http://localhost:3000"}
    for path, body in itertools.product(PATHS, BODIES):
        with subtests.test(path=path, body=str(body)[:60]):
            answer = await service.http.post(f"/auth/{path}", json=body, headers=headers)
            if answer.status_code == 204 or path.startswith("logout"):
                account = await service.register()
                headers["Authorization"] = account.headers["Authorization"]
                continue
            assert_refused(answer)
            assert_silent_about(answer, CANARY)
    for body in BODIES[:7]:
        answer = await service.http.post("/auth/token", data={k: str(v) for k, v in body.items()})
        assert_refused(answer)
        assert_silent_about(answer, CANARY)


async def test_a_password_pasted_where_a_field_belongs_is_not_repeated(service: Service) -> None:
    """`curl -d hunter2` sends a field of that name."""
    secret = "Hunter2Canary"
    for answer in (
        await service.http.post("/auth/token", data={secret: ""}),
        await service.http.post("/auth/register", json={secret: 1}),
        await service.http.post("/auth/token", data={"username": "a@b.example", "password": "x", secret: "1"}),
    ):
        assert_refused(answer, 422)
        assert_silent_about(answer, secret)


async def test_addresses_headers_and_methods_are_not_repeated(service: Service) -> None:
    for answer in (
        await service.http.get(f"/{CANARY}"),
        await service.http.get(f"/docs/assets/{CANARY}"),
        await service.http.get(f"/auth/me?x={CANARY}", headers={"Authorization": f"Bearer {CANARY}"}),
        await service.http.get("/auth/me", headers={"Authorization": CANARY, "X-Request-ID": CANARY + " x"}),
        await service.http.request("CANARY", "/auth/me"),
        await service.http.post("/auth/guest", json={}, headers={"Origin": f"http://{CANARY}"}),
        await service.http.post("/auth/register", content=b"{}", headers={"Content-Type": CANARY}),
    ):
        assert_refused(answer)
        assert_silent_about(answer, CANARY, "CANARY")


async def test_what_breaks_on_our_side_tells_nothing(start: Start, database_url: str) -> None:
    async with start() as service:
        account = await service.register()
        database = await asyncpg.connect(database_url)
        await database.execute("DROP TABLE audit_log")
        await database.close()

        answer = await service.log_in(account.user["email"], PASSWORD)

    assert_refused(answer, 500, code="internal_error")
    assert_silent_about(answer, PASSWORD, account.user["email"], "audit_log")


# Shapes that later commands will have, so that the border is safe before they come.


class Left(Command):
    kind: Literal["left"]


class Right(Command):
    kind: Literal["right"]


class Wide(Command):
    either: Annotated[Left | Right, Field(discriminator="kind")] | None = None
    known: Literal["a", "b"] | None = None
    number: int | None = None
    identity: UUID | None = None
    pattern: Annotated[str, Field(pattern="^[a-z]+$")] | None = None
    many: list[int] | None = None


def wide_bodies() -> Iterator[dict[str, Any]]:
    for value in (CANARY, [CANARY], {CANARY: CANARY}, {"kind": CANARY}, {"kind": [CANARY]}, [{CANARY: 1}]):
        yield from ({name: value} for name in Wide.model_fields)


async def test_no_shape_of_a_later_command_makes_a_refusal_repeat_its_input(
    start: Start, subtests: pytest.Subtests
) -> None:
    async with start() as service:
        router = api_router("/later", "later")

        @router.post("")
        async def later(_: General, command: Wide) -> None:
            raise AssertionError(command)

        mounted: FastAPI = mounted_app(service)
        mounted.include_router(router)
        for body in wide_bodies():
            with subtests.test(str(body)):
                answer = await service.http.post("/later", json=body)

                assert_refused(answer, 422)
                assert_silent_about(answer, CANARY)
                assert not INSIDES.search(answer.text)


def mounted_app(service: Service) -> FastAPI:
    """Return the application inside the wrapper that gives each request the parts."""
    [app] = [value for value in inspect.getclosurevars(service.app).nonlocals.values() if isinstance(value, FastAPI)]
    return app
