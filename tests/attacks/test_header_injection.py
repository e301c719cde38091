"""Headers that want to write headers (RELIABILITY 5: 30): what comes in through one never goes out through another."""

import asyncio
import re

import pytest
from tests.attacks.claims import assert_refused
from tests.conftest import Start
from tests.fixtures.service import Service

OURS = re.compile(r"[0-9a-f]{32}")
BAD_IDS = [
    b"",
    b"short",
    b"x" * 65,
    b"x" * 8000,
    b"has a blank",
    b"has\ttab-in-it",
    b"new\r\nSet-Cookie: a=b",
    b"newline-at-end\n",
    b"nul\x00inside",
    b"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9",
    b"\xff" * 12,
    b"<script>alert(1)</script>",
    b"'; DROP TABLE audit_log; --",
    b"${jndi:ldap://evil}",
    b"{request_id!r}",
    b"../../etc/passwd",
    b"a.b.c.d.e.f.g",
    b"%0d%0aSet-Cookie:",
]


async def test_a_request_id_that_is_not_sane_is_replaced(service: Service, subtests: pytest.Subtests) -> None:
    for given in BAD_IDS:
        with subtests.test(given=given[:24]):
            answer = await service.http.get("/auth/me", headers={b"X-Request-ID": given})

            assert_refused(answer, 401)
            assert OURS.fullmatch(answer.headers["x-request-id"])
            assert "set-cookie" not in answer.headers


async def test_a_sane_request_id_goes_through(service: Service) -> None:
    for given in ("abcd1234", "A-b_9" * 12, "01900000-0000-7000-8000-000000000001"):
        answer = await service.http.get("/auth/me", headers={"X-Request-ID": given})
        assert answer.headers["x-request-id"] == given
        assert_refused(answer, 401)


async def test_of_several_request_ids_one_is_taken_and_the_answer_has_one(service: Service) -> None:
    headers = [("X-Request-ID", "first-one-1"), ("X-Request-ID", "second-one-2")]
    answer = await service.http.get("/health/live", headers=headers)

    assert answer.headers.get_list("x-request-id") in (["first-one-1"], ["second-one-2"])


async def test_on_the_wire_no_byte_of_an_attack_becomes_a_header(start_on_socket: Start) -> None:
    lines = [
        b"X-Request-ID: good-one-1\r\n Set-Cookie: folded=1",
        b"X-Request-ID: good-one-1\rSet-Cookie: a=b",
        b"X-Request-ID: good-one-1\x00Set-Cookie: a=b",
        b"X-Request-ID: good-one-1\nSet-Cookie: a=b",
        b"Origin: http://localhost:3000\rSet-Cookie: a=b",
        b"Origin: http://localhost:3000%0d%0aSet-Cookie: a=b",
        b"Host: evil.example\r\nX-Forwarded-Host: evil.example",
    ]
    async with start_on_socket() as service:
        for line in lines:
            for path in (b"/auth/me", b"/nowhere/%0d%0aSet-Cookie:%20a=b", b"//evil.example/", b"/health/?next=//evil"):
                answer = await send(service, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
                head = answer.partition(b"\r\n\r\n")[0].lower()
                assert b"set-cookie" not in head, answer
                assert b"location" not in head, answer
                assert b"evil" not in answer.lower(), answer


async def send(service: Service, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.base_url.rpartition(":")[2]))
    try:
        writer.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


async def test_every_answer_carries_the_safe_headers(service: Service, subtests: pytest.Subtests) -> None:
    for method, path in (("GET", "/health/live"), ("GET", "/nowhere"), ("GET", "/auth/me"), ("PUT", "/auth/me")):
        with subtests.test(f"{method} {path}"):
            headers = (await service.http.request(method, path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-store"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "server" not in headers
            assert "strict-transport-security" not in headers


async def test_https_is_pinned_only_when_a_listed_proxy_says_it_was_https(start: Start) -> None:
    async with start(PARLEY_TRUSTED_PROXIES="127.0.0.1/32") as trusting, start() as wary:
        for service, expected in ((trusting, True), (wary, False)):
            answer = await service.http.get("/health/live", headers={"X-Forwarded-Proto": "https"})
            assert ("strict-transport-security" in answer.headers) is expected
