"""Limit coverage (RELIABILITY 5: 26): every route of the table is driven past its limit; a new one comes by itself."""

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from tests.attacks.claims import assert_refused
from tests.attacks.test_nothing_is_echoed import mounted_app
from tests.conftest import Start
from tests.fixtures.service import Service

from parley.core.limits import General
from parley.core.routing import api_routes

NAMES = ("GENERAL", "LISTS", "ASK", "LOGIN", "REGISTER", "ASSETS")
ALLOWED = 2
TINY = {f"PARLEY_LIMIT_{name}": f"{ALLOWED}/hour" for name in NAMES}
# Orchestrators ask these often and must never be told to slow down.
PROBES = {"/health", "/health/live", "/health/ready", "/metrics", "/debug/block"}


def limited_routes(app: FastAPI) -> set[tuple[str, str]]:
    """Return method and path of every route that is no probe."""
    found = set()
    for route in api_routes(app):
        original = route.original_route
        assert isinstance(original, APIRoute)
        if route.path not in PROBES:
            found |= {(method, str(route.path)) for method in original.methods or ()}
    return found


async def drive(service: Service, method: str, path: str, **headers: str) -> list[int]:
    """Ask once more than is allowed, in ways that cost nothing: what is asked need not be right to count."""
    url = path.replace("{", "").replace("}", "")
    answers = [await service.http.request(method, url, headers=headers) for _ in range(ALLOWED + 1)]
    refused = answers[-1]
    assert_refused(refused, 429, code="rate_limited")
    assert refused.json()["error"]["retryable"] is True
    assert 1 <= int(refused.headers["Retry-After"]) <= 3600
    assert refused.headers["RateLimit-Limit"] == str(ALLOWED)
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert refused.headers["RateLimit-Reset"] == refused.headers["Retry-After"]
    assert refused.headers["RateLimit-Policy"] == f"{ALLOWED};w=3600"
    return [answer.status_code for answer in answers]


async def test_every_route_refuses_what_is_past_its_limit(start: Start, subtests: pytest.Subtests) -> None:
    async with start(**TINY) as service:
        routes = limited_routes(mounted_app(service))
        assert len(routes) >= 12
        for method, path in sorted(routes):
            with subtests.test(route=f"{method} {path}"):
                statuses = await drive(service, method, path)
                assert 429 not in statuses[:-1], "the routes before it used up its bucket"


async def test_every_route_refuses_a_signed_in_caller_past_its_limit(start: Start, subtests: pytest.Subtests) -> None:
    async with start(**TINY) as service:
        account = await service.guest()
        for method, path in sorted(limited_routes(mounted_app(service)) - {("POST", "/auth/guest")}):
            with subtests.test(route=f"{method} {path}"):
                if path in {"/auth/logout", "/auth/logout-everywhere"}:
                    continue  # the first call ends the session, and the caller is an address from then on
                await drive(service, method, path, **account.headers)


async def test_the_count_is_of_a_route_not_of_the_address_that_was_written(start: Start) -> None:
    """Paths with ids must not get a fresh budget for each id."""
    async with start(**TINY) as service:
        answers = [await service.http.get(f"/docs/assets/{name}") for name in ("a", "b", "c")]

    assert [answer.status_code for answer in answers] == [422, 422, 429]


async def test_a_new_route_is_covered_by_itself(start: Start) -> None:
    async with start(**TINY) as service:
        app = mounted_app(service)

        @app.get("/new/{number}")
        async def new(_: General, number: int) -> int:
            return number

        assert ("GET", "/new/{number}") in limited_routes(app)
        await drive(service, "GET", "/new/1")


async def test_a_route_without_a_limit_is_found_out(start: Start) -> None:
    """The driver above, shown once to fail."""
    async with start(**TINY) as service:
        app = mounted_app(service)

        @app.get("/open")
        async def unguarded() -> int:
            return 1

        assert ("GET", "/open") in limited_routes(app)
        with pytest.raises(AssertionError):
            await drive(service, "GET", "/open")


async def test_requests_that_cannot_be_read_count_like_any_other(start: Start, subtests: pytest.Subtests) -> None:
    """Otherwise whoever sends broken bodies has no limit, and makes us read and parse each of them."""
    unreadable = {
        "JSON": ("/auth/register", b"{", "application/json"),
        "form": ("/auth/token", b"a=1&" * 2000, "application/x-www-form-urlencoded"),
    }
    for what, (path, body, kind) in unreadable.items():
        with subtests.test(what):
            async with start(**TINY) as service:
                answers = [
                    await service.http.post(path, content=body, headers={"Content-Type": kind})
                    for _ in range(ALLOWED + 1)
                ]

            assert [answer.status_code for answer in answers] == [400] * ALLOWED + [429]
