"""The edge: ids, headers, bodies that are too large or too slow, origins, and one shape for every failure."""

import asyncio
import json
from typing import Any

import pytest
from tests.conftest import Start
from tests.fixtures.service import Service

ERROR_MEMBERS = {"type", "title", "status", "detail", "instance", "request_id", "error"}


async def raw_request(service: Service, head: str, *pieces: bytes, pause_s: float = 0) -> bytes:
    """Send bytes as they are and return all that comes back."""
    host, port = service.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(head.replace("\n", "\r\n").encode())
        for piece in pieces:
            await writer.drain()
            await asyncio.sleep(pause_s)
            writer.write(piece)
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return await reader.read()
    finally:
        writer.close()


def error_of(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    problem = json.loads(body)
    assert set(problem) >= ERROR_MEMBERS
    return int(head.split()[1]), problem["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing/here", 404, "not_found"),
        ("DELETE", "/auth/me", 405, "method_not_allowed"),
        ("POST", "/auth/register", 422, "validation_error"),
        ("GET", "/auth/me", 401, "unauthorized"),
    ],
)
async def test_every_failure_has_the_one_shape(
    service: Service, method: str, path: str, status: int, code: str
) -> None:
    answer = await service.http.request(method, path, json={} if method == "POST" else None)
    problem = answer.json()

    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["error"]["code"] == code
    assert problem["request_id"] == answer.headers["x-request-id"]


async def test_what_nobody_expected_is_a_500_that_tells_nothing_and_a_log_line_that_tells_all(
    service: Service, logs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(service.parts["auth"], "admit_guest", broken)
    answer = await service.http.post("/auth/guest", json={}, headers={"Origin": "http://localhost:1"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "canary" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "http://localhost:1"
    assert any("canary" in str(event.get("exception")) for event in logs)


async def test_a_sane_request_id_is_kept_and_any_other_replaced(service: Service) -> None:
    kept = await service.http.get("/health/live", headers={"X-Request-ID": "abc-123_XYZ"})
    replaced = [
        await service.http.get("/health/live", headers={"X-Request-ID": odd})
        for odd in ("short", "a" * 65, 'a"b{}<>12345', "spaces in it")
    ]

    assert kept.headers["x-request-id"] == "abc-123_XYZ"
    assert all(len(answer.headers["x-request-id"]) == 32 for answer in replaced)


async def test_each_request_has_one_log_line_without_its_query(service: Service, logs: list[dict[str, Any]]) -> None:
    await service.http.get("/docs?ticket=canary")

    [line] = [event for event in logs if event["event"] == "request_served"]
    assert (line["method"], line["path"], line["status"], line["client"]) == ("GET", "/docs", 200, "127.0.0.1")
    assert "canary" not in str(logs)


@pytest.mark.parametrize(("share", "lines"), [("0", 0), ("1", 3)])
async def test_probes_and_scrapes_that_go_well_are_logged_as_often_as_is_set(
    start: Start, logs: list[dict[str, Any]], share: str, lines: int
) -> None:
    async with start(PARLEY_LOG_NOISE=share) as service:
        for path in ("/health/live", "/metrics", "/widget.js"):
            assert (await service.http.get(path)).status_code == 200
        assert (await service.http.get("/health/none")).status_code == 404

    paths = [event["path"] for event in logs if event["event"] == "request_served"]
    assert (len(paths), paths[-1]) == (lines + 1, "/health/none")


async def test_answers_carry_safe_headers(service: Service) -> None:
    api, docs = await service.http.get("/auth/me"), await service.http.get("/docs")

    assert api.headers["cache-control"] == "no-store"
    assert api.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "'unsafe-inline'" not in docs.headers["content-security-policy"].split("script-src")[1].split(";")[0]


async def test_the_body_may_be_as_large_as_the_limit_and_no_larger(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_BODY_LIMIT_BYTES="1000") as service:

        async def send(size: int, *, chunked: bool) -> int:
            body = b'{"refresh_token": "' + b"x" * (size - 21) + b'"}'
            assert len(body) == size
            content = _pieces(body) if chunked else body
            answer = await service.http.post(
                "/auth/refresh", content=content, headers={"Content-Type": "application/json"}
            )
            return answer.status_code

        async def _send_all() -> list[int]:
            return [await send(size, chunked=chunked) for chunked in (False, True) for size in (999, 1000, 1001, 9000)]

        async def _pieces(body: bytes) -> Any:
            for at in range(0, len(body), 100):
                yield body[at : at + 100]

        assert await _send_all() == [422, 422, 413, 413] * 2


async def test_a_body_that_trickles_is_given_up(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_BODY_TIMEOUT_S="0.3") as service:
        head = "POST /auth/refresh HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: 100\n\n"
        answer = await raw_request(service, head, *[b" "] * 5, pause_s=0.05)

    status, error = error_of(answer)
    assert (status, error["code"], error["retryable"]) == (408, "body_timeout", True)


async def test_a_length_that_lies_does_not_confuse_anybody(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_BODY_TIMEOUT_S="0.3", PARLEY_BODY_LIMIT_BYTES="1000") as service:
        head = "POST /auth/refresh HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: {}\n\n"
        too_much = await raw_request(service, head.format("99999999999999999999"))
        too_little = await raw_request(service, head.format("50"), b'{"refresh_token": "x"}')
        alive = await service.http.get("/health/live")

    assert b" 400 " in too_much.split(b"\r\n")[0] or error_of(too_much)[0] == 413
    assert error_of(too_little)[0] == 408
    assert alive.status_code == 200


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("https://shop.example", True),
        ("http://shop.example", False),
        ("https://shop.example.evil", False),
        ("https://shop.example:8443", False),
        ("https://evil.example", False),
        ("null", False),
    ],
)
async def test_only_listed_pages_may_read_answers(start: Start, origin: str, is_allowed: bool) -> None:
    async with start(PARLEY_ALLOWED_ORIGINS="https://shop.example") as service:
        plain = await service.http.get("/health/live", headers={"Origin": origin})
        asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        preflight = await service.http.options("/auth/token", headers=asks)

    for answer in (plain, preflight):
        assert answer.headers.get("access-control-allow-origin") == (origin if is_allowed else None)
        assert "access-control-allow-credentials" not in answer.headers
