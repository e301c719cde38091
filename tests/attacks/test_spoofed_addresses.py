"""Callers that say they are somebody else (RELIABILITY 5: 11): neither the limit nor the log believes them."""

import json
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.attacks.claims import statuses_of
from tests.attacks.processes import served
from tests.conftest import Start
from tests.fixtures.service import PASSWORD, Service, from_address

ADDRESSES = [f"198.51.100.{number}" for number in range(1, 5)]
SPOOFS = [
    "{}",
    "{}, 10.0.0.1",
    "10.0.0.1, {}",
    "{}:8080",
    "[::ffff:{}]",
    "garbage{}",
    "{}\t",
    '"{}"',
    "for={}",
    "{}" + "x" * 8000,
    "{0}," * 800,
    "{}\x1b[31m<script>",
    "fe80::1%{}",
]
NO_ADDRESSES = ["fe80::1%" + "x" * 8000, "fe80::1%\x1b[31m<script>", "::1%x", "not-an-ip", "1.2.3.4\x00", "x" * 8000]
HEADERS = ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Client-IP", "CF-Connecting-IP", "True-Client-IP", "Via"]


async def log_in_from(client: httpx.AsyncClient, *headers: tuple[str, str]) -> httpx.Response:
    body = {"username": "nobody@shop.example", "password": PASSWORD}
    return await client.post("/auth/token", data=body, headers=[(n.encode(), v.encode("latin-1")) for n, v in headers])


async def test_a_stranger_cannot_choose_the_address_it_is_counted_by(start: Start, subtests: pytest.Subtests) -> None:
    async with start(PARLEY_LIMIT_LOGIN="2/minute", PARLEY_TRUSTED_PROXIES="10.0.0.0/8") as service:
        for number, spoof in enumerate(SPOOFS):
            with subtests.test(spoof=spoof[:24]):
                async with from_address(service.app, f"203.0.113.{number}") as stranger:
                    answers = [await log_in_from(stranger, ("X-Forwarded-For", spoof.format(a))) for a in ADDRESSES]

                assert statuses_of(answers) == [401, 401, 429, 429]


async def test_no_other_header_chooses_it_either_not_even_through_a_trusted_proxy(
    start: Start, subtests: pytest.Subtests
) -> None:
    async with (
        start(PARLEY_LIMIT_LOGIN="2/minute", PARLEY_TRUSTED_PROXIES="10.0.0.0/8") as service,
        from_address(service.app, "10.0.0.1") as proxy,
    ):
        for number, header in enumerate(HEADERS):
            with subtests.test(header=header):
                answers = [
                    await log_in_from(proxy, (header, a), ("X-Forwarded-For", f"{a}, 203.0.113.{number}"))
                    for a in ADDRESSES
                ]

                assert statuses_of(answers) == [401, 401, 429, 429]


async def test_behind_a_trusted_proxy_callers_are_counted_apart(start: Start) -> None:
    async with (
        start(PARLEY_LIMIT_LOGIN="1/minute", PARLEY_TRUSTED_PROXIES="10.0.0.0/8") as service,
        from_address(service.app, "10.0.0.1") as proxy,
    ):
        answers = [await log_in_from(proxy, ("X-Forwarded-For", address)) for address in ADDRESSES for _ in (1, 2)]

    assert statuses_of(answers) == [401, 429] * len(ADDRESSES)


async def test_many_addresses_of_one_ipv6_customer_are_one_caller(start: Start) -> None:
    async with start(PARLEY_LIMIT_LOGIN="2/minute") as service:
        answers = []
        for number in range(4):
            async with from_address(service.app, f"2001:db8:1:2::{number:x}") as stranger:
                answers.append(await log_in_from(stranger))

    assert statuses_of(answers) == [401, 401, 429, 429]


async def test_whatever_a_proxy_passes_on_is_an_address_before_it_is_stored_or_logged(
    start: Start, logs: list[dict[str, Any]], subtests: pytest.Subtests
) -> None:
    async with start(PARLEY_TRUSTED_PROXIES="127.0.0.1/32") as service:
        for said in NO_ADDRESSES:
            with subtests.test(said=said[:24]):
                body = {"email": f"{uuid.uuid4().hex}@shop.example", "password": PASSWORD}
                header = {b"X-Forwarded-For": said.encode("latin-1")}

                answer = await service.http.post("/auth/register", json=body, headers=header)

                assert answer.status_code == 201, answer.text
                shown = str(logs[-1]["client"])
                assert set(shown) <= set("0123456789abcdef.:"), ascii(shown[:80])


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_a_request_is_one_line_of_the_log_whatever_it_says(
    database_url: str, redis_url: str, tmp_path: Path, form: str
) -> None:
    evil = "%0a%0d2026-01-01%20[info]%20forged%1b[2J%c2%85%e2%80%a8%00"
    headers = {b"X-Forwarded-For": b"fe80::1%\x85<script>", b"X-Request-ID": b"a b\x85"}
    environ = {"PARLEY_LOG_FORMAT": form, "PARLEY_TRUSTED_PROXIES": "127.0.0.1/32"}
    with served(tmp_path, database_url, redis_url, **environ) as serving:
        for target in (f"/{evil}", f"/docs/assets/{evil}", f"/auth/me?x={evil}", "/forged%1b[2J"):
            httpx.get(serving.address + target, headers=headers)

    said = serving.out.partition("Try: open")[2]
    lines = [line for line in said.split("\n") if "request_served" in line or "forged" in line]
    assert len(lines) == 4, ascii(said)
    for line in lines:
        assert not set(line) & set("\r\x00"), ascii(line)
        assert "\x1b[2J" not in line, ascii(line)
        if form == "json":
            assert "\x1b" not in line, ascii(line)
            assert json.loads(line)["event"] == "request_served"


async def test_health_details_cannot_be_asked_for_by_saying_one_is_at_home(service: Service) -> None:
    async with from_address(service.app, "203.0.113.9") as stranger:
        for header in HEADERS:
            for said in ("127.0.0.1", "::1", "localhost", "for=127.0.0.1"):
                answer = await stranger.get("/health", headers={header: said})
                assert answer.json()["components"] is None, (header, said)
    for name, value in (("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=203.0.113.9"), ("X-Forwarded-For", "")):
        answer = await service.http.get("/health", headers={name: value})
        assert answer.json()["components"] is None, (name, value)
