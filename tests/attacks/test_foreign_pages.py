"""Pages of strangers (RELIABILITY 5: 10): no foreign origin is ever told that it may read our answers."""

import itertools

import pytest
from tests.attacks.claims import assert_refused
from tests.conftest import Start
from tests.fixtures.service import Service

SHOP = "https://shop.example"
LOOK_ALIKES = [
    "https://shop.example.evil",
    "https://evil-shop.example",
    "https://xshop.example",
    "https://sub.shop.example",
    "http://shop.example",
    "https://shop.example:8443",
    "https://shop.example:443",
    "https://shop.example/",
    "https://shop.example/path",
    "https://SHOP.example",
    "https://shop.example ",
    "https://shop.example,https://evil.example",
    "https://shop.example https://evil.example",
    "https://shop.example%60.evil",
    "https://shop.example\\.evil",
    "https://user@shop.example",
    "https://shopXexample",
    "ws://shop.example",
    "//shop.example",
    "shop.example",
    "null",
    "*",
    "file://",
    "chrome-extension://abc",
]
NOT_QUITE_LOOPBACK = [
    "http://localhost.evil.example",
    "http://localhost:3000.evil.example",
    "http://127.0.0.1.evil.example",
    "http://127.0.0.2",
    "http://127.1",
    "http://2130706433",
    "http://evil.example#http://localhost",
    "http://localhost@evil.example",
    "http://localhost:",
    "http://localhost:999999",
    "http://[::1].evil",
    "http://[::2]",
    "http://0.0.0.0",
    "ftp://localhost",
]
METHODS, STRANGE_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"], ["TRACE", "CONNECT", "X-ODD"]


def preflight(origin: str, method: str = "POST", headers: str = "authorization, content-type") -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}


async def test_no_foreign_origin_is_let_read_an_answer(start: Start, subtests: pytest.Subtests) -> None:
    async with start(PARLEY_ALLOWED_ORIGINS=SHOP) as service:
        account = await service.register()
        for origin in [*LOOK_ALIKES, *NOT_QUITE_LOOPBACK]:
            with subtests.test(origin=origin):
                said = {"Origin": origin, "Cookie": "session=1"}
                for answer in (
                    await service.http.get("/auth/me", headers={**account.headers, **said}),
                    await service.http.get("/auth/me", headers=said),
                    await service.http.get("/nowhere", headers=said),
                    await service.http.options("/auth/me", headers=preflight(origin)),
                ):
                    assert "access-control-allow-origin" not in answer.headers
                    assert "access-control-allow-credentials" not in answer.headers
                guest = await service.http.post("/auth/guest", json={}, headers=said)
                assert_refused(guest, 403, code="origin_refused")


async def test_a_page_of_ours_may_read_answers_but_sends_no_cookies(start: Start) -> None:
    async with start(PARLEY_ALLOWED_ORIGINS=SHOP) as service:
        for origin in (SHOP, "http://localhost:3000", "http://127.0.0.1:5173", "https://[::1]:8443"):
            for path in ("/auth/me", "/nowhere", "/health/live"):
                answer = await service.http.get(path, headers={"Origin": origin})
                assert answer.headers["access-control-allow-origin"] == origin
                assert "origin" in answer.headers["vary"].lower()
                assert "access-control-allow-credentials" not in answer.headers


async def test_a_preflight_is_granted_to_our_pages_and_known_methods_only(
    start: Start, subtests: pytest.Subtests
) -> None:
    async with start(PARLEY_ALLOWED_ORIGINS=SHOP) as service:
        for origin, method in itertools.product([SHOP, "https://evil.example"], [*METHODS, *STRANGE_METHODS]):
            with subtests.test(origin=origin, method=method):
                answer = await service.http.options("/auth/token", headers=preflight(origin, method))

                assert (answer.status_code == 200) is (origin == SHOP and method in METHODS)
                assert ("access-control-allow-origin" in answer.headers) is (origin == SHOP)
                assert "access-control-allow-credentials" not in answer.headers
                if method in STRANGE_METHODS:
                    assert method not in answer.headers["access-control-allow-methods"]


async def test_a_preflight_does_not_repeat_the_headers_it_was_asked_for(start: Start) -> None:
    async with start(PARLEY_ALLOWED_ORIGINS=SHOP) as service:
        answer = await service.http.options("/auth/me", headers=preflight(SHOP, headers="x-canary, authorization"))

    assert answer.status_code == 400
    assert "canary" not in answer.text + str(answer.headers)


async def test_a_refused_preflight_answers_in_the_one_shape(start: Start) -> None:
    async with start(PARLEY_ALLOWED_ORIGINS=SHOP) as service:
        assert_refused(await service.http.options("/auth/me", headers=preflight("https://evil.example")), 400, 403)


async def test_outside_development_loopback_pages_are_strangers(start: Start) -> None:
    async with start(
        PARLEY_ENVIRONMENT="production", PARLEY_DEMO="1", PARLEY_AUTH_BCRYPT_COST="10", PARLEY_ALLOWED_ORIGINS=SHOP
    ) as service:
        answer = await service.http.get("/auth/me", headers={"Origin": "http://localhost:3000"})
        assert "access-control-allow-origin" not in answer.headers
        refused = await service.http.post("/auth/guest", json={}, headers={"Origin": "http://localhost:3000"})
        assert_refused(refused, 403, code="origin_refused")
        assert (await service.http.post("/auth/guest", json={}, headers={"Origin": SHOP})).status_code == 201


async def test_a_page_may_read_what_it_needs_to_slow_down(service: Service) -> None:
    answer = await service.http.get("/auth/me", headers={"Origin": "http://localhost:3000"})

    exposed = answer.headers["access-control-expose-headers"]
    assert {"Retry-After", "X-Request-ID", "RateLimit-Reset"} <= {name.strip() for name in exposed.split(",")}
