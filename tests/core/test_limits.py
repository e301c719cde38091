"""Limits: every route names one, all workers count together, and a Redis that is away is noticed by nobody."""

from tests.conftest import Start
from tests.fixtures.service import SECRET, from_address

from parley.app import create_app
from parley.core.routing import api_routes
from parley.settings import load

LIMITS = {"none", "general", "lists", "ask", "login", "register", "assets"}


def names_of_limits(dependant: object) -> set[str]:
    found: set[str] = set()
    for inner in getattr(dependant, "dependencies", []):
        name = getattr(inner.call, "limit_name", None)
        found |= ({name} if name else set()) | names_of_limits(inner)
    return found


def test_every_route_names_its_limit() -> None:
    app = create_app(
        load({"PARLEY_AUTH_SECRETS": SECRET, "DATABASE_URL": "postgresql://x/y", "REDIS_URL": "redis://x"})
    )

    unnamed = {}
    for route in api_routes(app):
        named = names_of_limits(route.original_route.dependant)  # type: ignore[attr-defined]
        if len(named & LIMITS) != 1:
            unnamed[route.path] = named

    assert not unnamed, f"give each of these one of core.limits' aliases: {unnamed}"


async def test_two_workers_count_together(start: Start) -> None:
    async with start(PARLEY_LIMIT_GENERAL="10/minute") as one, start(PARLEY_LIMIT_GENERAL="10/minute") as other:
        answers = [await worker.http.get("/docs") for _ in range(7) for worker in (one, other)]

    assert [answer.status_code for answer in answers].count(200) == 10


async def test_a_refusal_says_when_to_come_back(start: Start) -> None:
    async with start(PARLEY_LIMIT_LOGIN="2/minute") as service:
        answers = [await service.log_in("nobody@shop.example") for _ in range(3)]

    refused = answers[2]
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert refused.json()["error"] == {
        "code": "rate_limited",
        "message": "Too many requests. Please slow down.",
        "retryable": True,
        "param": None,
    }
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit-Limit"] == "2"
    assert refused.headers["RateLimit-Remaining"] == "0"


async def test_log_in_and_register_have_a_bucket_each(start: Start) -> None:
    async with start(PARLEY_LIMIT_LOGIN="1/minute", PARLEY_LIMIT_REGISTER="1/minute") as service:
        assert (await service.log_in("nobody@shop.example")).status_code == 401
        assert (await service.log_in("nobody@shop.example")).status_code == 429
        assert (await service.register()).user["role"] == "user"


async def test_users_and_addresses_are_counted_apart(start: Start) -> None:
    async with start(PARLEY_LIMIT_GENERAL="2/minute") as service:
        ada, bob = await service.register(), await service.register()
        for account in (ada, bob):
            statuses = [(await service.http.get("/auth/me", headers=account.headers)).status_code for _ in range(3)]
            assert statuses == [200, 200, 429]
        async with from_address(service.app, "203.0.113.5") as stranger:
            assert (await stranger.get("/docs")).status_code == 200


async def test_without_redis_each_worker_goes_on_counting_alone(start: Start) -> None:
    async with start(PARLEY_LIMIT_GENERAL="3/minute", PARLEY_REDIS_URL="redis://127.0.0.1:1") as service:
        statuses = [(await service.http.get("/docs")).status_code for _ in range(4)]

    assert statuses == [200, 200, 200, 429]
