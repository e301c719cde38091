"""Floods (RELIABILITY 5: 25): a limit is a limit for many clients at once, over workers, and without Redis."""

import asyncio
from collections import Counter

import httpx
from tests.attacks.claims import assert_refused, statuses_of
from tests.conftest import Start
from tests.fixtures.service import Service, from_address

TOLERANCE = 1.1  # RELIABILITY: within 10 %
DEADLINE_S = "1"  # four times what it is: a neighbour must not push the worker off either


async def flood(service: Service, count: int, path: str = "/docs", **headers: str) -> list[httpx.Response]:
    return await asyncio.gather(*(service.http.get(path, headers=headers) for _ in range(count)))


def taken(answers: list[httpx.Response]) -> int:
    """Return how many were let through; every other one is a refusal in the one shape."""
    for answer in answers:
        if answer.status_code != 200:
            assert_refused(answer, 429, code="rate_limited")
            assert int(answer.headers["Retry-After"]) >= 1
    return statuses_of(answers).count(200)


async def test_a_burst_of_parallel_requests_gets_no_more_than_the_limit(start: Start) -> None:
    """More at once than the worker has connections to Redis."""
    async with start(PARLEY_LIMIT_GENERAL="20/minute") as service:
        assert 20 <= taken(await flood(service, 150)) <= 20 * TOLERANCE


async def test_a_burst_does_not_push_the_worker_off_redis(start: Start) -> None:
    async with start(PARLEY_LIMIT_GENERAL="20/minute", PARLEY_LIMIT_DEADLINE_S=DEADLINE_S) as service:
        await flood(service, 150)

        assert service.parts["limiter"].is_shared


async def test_two_workers_hold_one_limit_together(start: Start) -> None:
    async with start(PARLEY_LIMIT_GENERAL="30/minute") as one, start(PARLEY_LIMIT_GENERAL="30/minute") as other:
        answers = [a for _ in range(10) for worker in (one, other) for a in await flood(worker, 5)]

    assert 30 <= taken(answers) <= 30 * TOLERANCE


async def test_one_user_on_many_devices_and_addresses_is_one_caller(start: Start) -> None:
    async with start(PARLEY_LIMIT_GENERAL="10/minute") as service:
        account = await service.register()
        answers = []
        for number in range(10):
            async with from_address(service.app, f"198.51.100.{number}") as device:
                answers += [await device.get("/auth/me", headers=account.headers) for _ in range(3)]

    assert taken(answers) == 10


async def test_one_address_with_many_tokens_mints_no_more_guests_than_the_limit(start: Start) -> None:
    """Whoever can bring each guest's token to make the next ones has no limit at all."""
    async with start(PARLEY_LIMIT_GENERAL="3/minute") as service:
        page = {"Origin": "http://localhost:3000"}
        guests = [await service.guest() for _ in range(3)]
        answers = [
            await service.http.post("/auth/guest", json={}, headers={**page, **guest.headers})
            for guest in guests
            for _ in range(2)
        ]

    assert statuses_of(answers).count(201) == 0


async def test_wrong_passwords_are_counted_by_address_whoever_signs_the_request(start: Start) -> None:
    async with start(PARLEY_LIMIT_LOGIN="3/minute") as service:
        accounts = [await service.register() for _ in range(4)]
        body = {"username": "ada@shop.example", "password": "guess guess"}
        guesses = [await service.http.post("/auth/token", data=body, headers=a.headers) for a in accounts]

        assert statuses_of(guesses) == [401, 401, 401, 429]

        body = {"current_password": "guess guess", "new_password": "guess guess guess"}
        guesses = [await service.http.post("/auth/password", json=body, headers=a.headers) for a in accounts]
        assert statuses_of(guesses) == [401, 401, 401, 429]


async def test_callers_do_not_use_up_each_others_limit(start: Start) -> None:
    async with start(PARLEY_LIMIT_GENERAL="5/minute") as service:
        loud, quiet = await service.register(), await service.register()
        assert taken(await flood(service, 30, "/auth/me", **loud.headers)) == 5

        assert taken(await flood(service, 5, "/auth/me", **quiet.headers)) == 5
        assert taken(await flood(service, 5, "/docs", **loud.headers)) == 5  # each route has a bucket of its own


async def test_without_redis_each_worker_holds_the_limit_alone(start: Start) -> None:
    away = {"PARLEY_REDIS_URL": "redis://127.0.0.1:1", "PARLEY_LIMIT_GENERAL": "20/minute"}
    async with start(**away) as one, start(**away) as other:
        counts = [taken(await flood(worker, 100)) for worker in (one, other)]

    assert counts == [20, 20]


async def test_a_refused_caller_is_let_in_again_when_it_was_told(start: Start) -> None:
    async with start(PARLEY_LIMIT_GENERAL="2/second") as service:
        answers = await flood(service, 4)
        refused = next(answer for answer in answers if answer.status_code == 429)
        await asyncio.sleep(int(refused.headers["Retry-After"]))

        assert taken(await flood(service, 1)) == 1


async def test_probes_are_never_told_to_slow_down(start: Start) -> None:
    tiny = {f"PARLEY_LIMIT_{name}": "1/hour" for name in ("GENERAL", "LISTS", "ASK", "LOGIN", "REGISTER")}
    async with start(**tiny) as service:
        await service.parts["readiness"].wait()
        for path in ("/health/live", "/health/ready", "/health"):
            assert Counter(statuses_of(await flood(service, 20, path))) == {200: 20}
