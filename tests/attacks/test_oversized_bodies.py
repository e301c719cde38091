"""Bodies that are too large, too slow, or not as long as they say (RELIABILITY 5: 20), on a real socket."""

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from tests.attacks.claims import assert_refused
from tests.conftest import Start
from tests.fixtures.service import Service

LIMIT = 65_536
MB = 1_048_576
SILENCE_S = 0.2


async def raw(
    service: Service, request: bytes, rest: Sequence[bytes] = (), pause_s: float = 0.0, patience_s: float = 5.0
) -> bytes:
    """Send bytes as they are; return what comes until the server closes or has nothing more to say."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.base_url.rpartition(":")[2]))

    async def send_rest() -> None:
        for piece in rest:
            await asyncio.sleep(pause_s)
            writer.write(piece)

    writer.write(request)
    sending = asyncio.create_task(send_rest(), name="the rest of the body")
    answer = b""
    try:
        while True:
            async with asyncio.timeout(SILENCE_S if answer else patience_s):
                piece = await reader.read(65_536)
            if not piece:
                return answer
            answer += piece
    except (TimeoutError, ConnectionError):
        return answer
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


def head(*lines: str, path: str = "/auth/register") -> bytes:
    return "\r\n".join((f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *lines, "", "")).encode()


def problem_of(answer: bytes) -> dict[str, Any]:
    headers, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in headers, answer
    problem: dict[str, Any] = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])
    return problem


async def pieces(total: int, size: int = 16_384) -> AsyncIterator[bytes]:
    for start in range(0, total, size):
        yield b"x" * min(size, total - start)


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
async def test_a_body_may_be_as_long_as_the_limit_and_not_a_byte_longer(start_on_socket: Start, chunked: bool) -> None:
    async with start_on_socket(PARLEY_BODY_LIMIT_BYTES=str(LIMIT)) as service:
        for length, expected in ((LIMIT - 1, 400), (LIMIT, 400), (LIMIT + 1, 413), (LIMIT * 8, 413)):
            content: Any = pieces(length) if chunked else b"x" * length
            headers = {"Content-Type": "application/json"}
            answer = await service.http.post("/auth/register", content=content, headers=headers)
            assert_refused(answer, expected, code="body_too_large" if expected == 413 else "invalid_json")
        assert (await service.http.get("/health/live")).status_code == 200


async def test_a_route_without_a_body_takes_no_endless_one(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_BODY_LIMIT_BYTES=str(LIMIT)) as service:
        for path in ("/health/live", "/nowhere", "/auth/me"):
            answer = await raw(service, head(f"Content-Length: {LIMIT + 1}", path=path))
            assert problem_of(answer)["status"] == 413


async def test_a_length_that_is_none_is_refused(start_on_socket: Start, subtests: pytest.Subtests) -> None:
    async with start_on_socket() as service:
        for length in ("-1", "1e3", "0x10", "+5", " ", "5, 5", "9" * 19, "9" * 25, "9" * 5000, "五", "1 1"):
            with subtests.test(length[:25]):
                answer = await raw(service, head(f"Content-Length: {length}"))
                assert answer[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 413"}, answer[:200]


async def test_a_length_of_thousands_of_digits_is_refused_by_us_too(service: Service) -> None:
    """Another server in front of the application may let it through."""
    for length in ("9" * 19, "9" * 5000):
        answer = await service.http.post("/auth/register", content=b"", headers={"Content-Length": length})
        assert_refused(answer, 400, 413)


async def test_two_lengths_or_a_length_with_chunks_are_refused(start_on_socket: Start) -> None:
    async with start_on_socket() as service:
        for lines in (
            ("Content-Length: 2", "Content-Length: 5"),
            ("Content-Length: 5", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding: chunked, identity",),
            ("Transfer-Encoding: xchunked",),
            ("Transfer-Encoding : chunked",),
        ):
            answer = await raw(service, head(*lines) + b"0\r\n\r\nGET /auth/me HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " not in answer[:20], (lines, answer[:300])
            assert answer.count(b"HTTP/1.1 ") <= 1, (lines, answer)


async def test_a_body_shorter_than_it_says_ends_with_the_time_for_bodies(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_BODY_TIMEOUT_S="0.5") as service:
        began = time.monotonic()
        answer = await raw(service, head("Content-Length: 100") + b"{}")
        took_s = time.monotonic() - began

    assert problem_of(answer)["error"]["code"] == "body_timeout"
    assert problem_of(answer)["error"]["retryable"] is True
    assert 0.4 < took_s < 2.0


async def test_a_body_of_a_byte_now_and_then_ends_with_the_time_for_bodies(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_BODY_TIMEOUT_S="0.5") as service:
        for lines, piece in ((("Content-Length: 1000",), b" "), (("Transfer-Encoding: chunked",), b"1\r\n \r\n")):
            answer = await raw(service, head(*lines), [piece] * 20, pause_s=0.05)
            assert problem_of(answer)["status"] == 408


async def test_a_slow_sender_keeps_nobody_else_waiting(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_BODY_TIMEOUT_S="1") as service:
        slow = [asyncio.create_task(raw(service, head("Content-Length: 100"))) for _ in range(50)]
        took_s = []
        for _ in range(20):
            began = time.monotonic()
            assert (await service.http.get("/health/live")).status_code == 200
            took_s.append(time.monotonic() - began)
        answers = await asyncio.gather(*slow)

    assert sorted(took_s)[18] < 0.2
    assert all(problem_of(answer)["status"] == 408 for answer in answers)


async def test_what_is_refused_is_not_kept_in_memory(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_BODY_LIMIT_BYTES=str(LIMIT)) as service:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(3):
            try:
                answer = await service.http.post("/auth/register", content=pieces(64 * MB, MB))
                assert answer.status_code == 413
            except httpx.TransportError:
                continue  # it stopped reading, as it said it would
        grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

    assert grown_mb < 32, f"{grown_mb:.0f} MB"


async def test_a_refused_body_leaves_nothing_for_the_next_request(start_on_socket: Start) -> None:
    """What remains of a refused body must not be read as a request of its own."""
    smuggled = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    async with start_on_socket(PARLEY_BODY_LIMIT_BYTES=str(LIMIT)) as service:
        answer = await raw(service, head(f"Content-Length: {LIMIT + len(smuggled)}"), [smuggled])

    assert problem_of(answer)["status"] == 413
    assert answer.count(b"HTTP/1.1 ") == 1
