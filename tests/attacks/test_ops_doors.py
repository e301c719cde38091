"""Metrics and the inside of health (RELIABILITY 5: 36): for those who run the service, whatever a stranger sends."""

import json

import httpx
import pytest
from tests.attacks.claims import assert_refused
from tests.conftest import Start
from tests.fixtures.service import Service, from_address

STRANGER, PROXY = "203.0.113.5", "10.0.0.2"
TOKEN = "canary-ops-token-0123456789"
CLOSED = {"PARLEY_OPS_TOKEN": TOKEN, "PARLEY_OPS_ALLOW": "198.51.100.0/24"}
# All that has ever let somebody pass for this machine, somewhere.
LIES = [
    {name: value}
    for value in ("127.0.0.1", "::1", "localhost", "198.51.100.7", "127.0.0.1, 127.0.0.1", "unknown", "", "[::1]:80")
    for name in ("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "Host")
    if not (name == "Host" and value in {"", "unknown"})
]
LIES += [{"Forwarded": "for=127.0.0.1"}, {"X-Forwarded-Host": "localhost"}, {"X-Original-URL": "/metrics"}]
LIES += [{"X-Rewrite-URL": "/metrics"}, {"X-HTTP-Method-Override": "GET"}, {"Via": "1.1 localhost"}]
KEYS = ["", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN[:-1], f"Bearer {TOKEN}x", f"Bearer {TOKEN.upper()}"]
KEYS += ["Bearer \u00e9", f"Bearer {TOKEN[:8]}", "Bearer null", "Bearer *", f"Token {TOKEN}", f"Bearer  {TOKEN}"]
WAYS = [
    "/metrics/",
    "//metrics",
    "/METRICS",
    "/metrics;a=b",
    "/./metrics",
    "/x/../metrics",
    "/metrics%00",
    "/metrics%2f",
]
WAYS += [
    "/debug/block?seconds=0.01",
    "/debug",
    "/health/details",
    "/health/metrics",
    "/admin/metrics",
    "/livez",
    "/readyz",
]


def assert_bare(answer: httpx.Response) -> None:
    """Health tells a stranger how it is, and nothing of why."""
    assert answer.json() == {"status": "ok", "components": None}


async def test_no_header_makes_a_stranger_one_of_us(start: Start, subtests: pytest.Subtests) -> None:
    async with start(**CLOSED) as service, from_address(service.app, STRANGER) as stranger:
        for lie in LIES:
            with subtests.test(str(lie)):
                assert_refused(await stranger.get("/metrics", headers=lie), 404, code="not_found")
                assert_bare(await stranger.get("/health", headers=lie))
        for key in KEYS:
            with subtests.test(key):
                headers = {b"Authorization": key.encode()}
                assert_refused(await stranger.get("/metrics", headers=headers), 404, code="not_found")
                assert_bare(await stranger.get("/health", headers=headers))


async def test_what_comes_through_a_proxy_of_this_machine_is_not_this_machine(
    start: Start, subtests: pytest.Subtests
) -> None:
    """The usual set-up: a proxy beside the service, named as trusted or forgotten."""
    named = {"PARLEY_TRUSTED_PROXIES": f"127.0.0.1/32,{PROXY}/32"}
    spoken = [
        {"X-Forwarded-For": STRANGER},
        {"X-Forwarded-For": f"127.0.0.1, {STRANGER}"},
        {"X-Forwarded-For": "unknown"},
        {"X-Forwarded-For": "127.0.0.1, _hidden"},
        {"Forwarded": f"for={STRANGER}"},
    ]
    for trust in (named, {}):
        async with start(**CLOSED, **trust) as service, from_address(service.app, "127.0.0.1") as proxy:
            assert (await proxy.get("/metrics")).status_code == 200
            for headers in spoken:
                with subtests.test(trust=bool(trust), headers=str(headers)):
                    assert_refused(await proxy.get("/metrics", headers=headers), 404, code="not_found")
                    assert_bare(await proxy.get("/health", headers=headers))


async def test_no_way_round_leads_there(start: Start, subtests: pytest.Subtests) -> None:
    async with start(**CLOSED) as service, from_address(service.app, STRANGER) as stranger:
        for way in WAYS:
            for method in ("GET", "POST"):
                with subtests.test(way=way, method=method):
                    answer = await stranger.request(method, httpx.URL(f"http://service{way}"))
                    assert answer.status_code in {404, 405}
                    assert "http_requests_total" not in answer.text
        for method in ("HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE"):
            answer = await stranger.request(method, "/metrics")
            assert answer.status_code in {404, 405}
            assert "components" not in (await stranger.request(method, "/health")).text


async def test_an_admin_of_the_chat_is_no_operator_of_the_house(service: Service) -> None:
    admin = await service.with_role("admin")
    async with from_address(service.app, STRANGER) as stranger:
        assert_refused(await stranger.get("/metrics", headers=admin.headers), 404, code="not_found")
        assert (await stranger.get("/health", headers=admin.headers)).json()["components"] is None


async def test_no_page_of_another_origin_reads_them(service: Service) -> None:
    """A browser on the machine of the service is this machine: what it runs for others must not read along."""
    for path in ("/metrics", "/health"):
        answer = await service.http.get(path, headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


async def test_a_component_that_fails_tells_a_stranger_nothing(start: Start) -> None:
    async with start(PARLEY_DATABASE_URL="postgresql://canary:canary@127.0.0.1:1/canary") as service:
        async with from_address(service.app, STRANGER) as stranger:
            answer = await stranger.get("/health")
        told = await service.http.get("/health")

    assert (answer.status_code, answer.json()) == (503, {"status": "down", "components": None})
    assert told.json()["components"]["database"]["status"] == "down"
    assert "canary" not in json.dumps(told.json())
