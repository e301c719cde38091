"""Requests that two servers would cut differently (RELIABILITY 5: 29): refused, or cut as the RFC says."""

import asyncio
import json
import re
from typing import Any

import pytest
from tests.attacks.wires import chatting, dialled, port_of, talk
from tests.conftest import Start

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)


def post(*lines: bytes, body: bytes = b"", end: bytes = b"\r\n") -> bytes:
    head = (b"POST /auth/token HTTP/1.1", b"Host: x", b"Content-Type: application/json", *lines)
    return end.join(head) + end * 2 + body


TE = b"Transfer-Encoding: chunked"
CL = b"Content-Length: %d"
# Whoever reads the other header, or the other line end, sees HIDDEN as a request of its own.
AMBIGUOUS: dict[str, bytes] = {
    "CL.TE": post(CL % (5 + len(HIDDEN)), TE, body=b"0\r\n\r\n" + HIDDEN),
    "TE.CL": post(TE, CL % 4, body=CHUNK),
    "CL.CL": post(CL % 0, CL % len(HIDDEN), body=HIDDEN),
    "CL, CL": post(b"Content-Length: 0, %d" % len(HIDDEN), body=HIDDEN),
    "CL +": post(b"Content-Length: +%d" % len(HIDDEN), body=HIDDEN),
    "CL 0x": post(b"Content-Length: 0x%x" % len(HIDDEN), body=HIDDEN),
    "CL -1": post(b"Content-Length: -1", body=HIDDEN),
    "CL with a space": post(b"Content-Length : %d" % len(HIDDEN), body=HIDDEN),
    "CL with a control": post(b"Content-Length:\x0b%d" % len(HIDDEN), body=HIDDEN),
    "CL with NUL": post(b"Content-Length: %d\x00" % len(HIDDEN), body=HIDDEN),
    "CL folded": post(b"Content-Length:\r\n %d" % len(HIDDEN), b"Content-Length: 0", body=HIDDEN),
    "TE.TE": post(TE, b"Transfer-Encoding: identity", body=b"0\r\n\r\n" + HIDDEN),
    "TE x": post(b"Transfer-Encoding: xchunked", CL % len(HIDDEN), body=HIDDEN),
    "TE space": post(b"Transfer-Encoding : chunked", CL % (5 + len(HIDDEN)), body=b"0\r\n\r\n" + HIDDEN),
    "TE tab": post(b"Transfer-Encoding:\tchunked", CL % (5 + len(HIDDEN)), body=b"0\r\n\r\n" + HIDDEN),
    "TE control": post(b"Transfer-Encoding: \x0bchunked", CL % (5 + len(HIDDEN)), body=b"0\r\n\r\n" + HIDDEN),
    "TE quoted": post(b'Transfer-Encoding: "chunked"', CL % (5 + len(HIDDEN)), body=b"0\r\n\r\n" + HIDDEN),
    "TE, identity": post(b"Transfer-Encoding: chunked, identity", CL % (5 + len(HIDDEN)), body=b"0\r\n\r\n" + HIDDEN),
    "TE folded": post(b"Transfer-Encoding:\r\n chunked", CL % (5 + len(HIDDEN)), body=b"0\r\n\r\n" + HIDDEN),
    "TE behind a bare LF": post(b"X: y\n" + TE, CL % (5 + len(HIDDEN)), body=b"0\r\n\r\n" + HIDDEN),
    "TE behind a bare CR": post(b"X: y\r" + TE, CL % (5 + len(HIDDEN)), body=b"0\r\n\r\n" + HIDDEN),
    "CL behind a bare CR": post(b"X: y\r" + CL % len(HIDDEN), body=HIDDEN),
    "a request behind a bare CR": post(b"X: y\r\r" + HIDDEN),
    "a chunk size with a sign": post(TE, body=b"+0\r\n\r\n" + HIDDEN),
    "a chunk size with 0x": post(TE, body=b"0x0\r\n\r\n" + HIDDEN),
    "a chunk size with a space": post(TE, body=b"0 \x00\r\n\r\n" + HIDDEN),
    "a chunk size of 2^64": post(TE, body=b"10000000000000000\r\n\r\n" + HIDDEN),
    "a chunk that ends with nothing": post(TE, body=b"1\r\nA0\r\n\r\n" + HIDDEN),
    "a chunk extension with a bare LF": post(TE, body=b"1;a\nb\r\nA\r\n0\r\n\r\n" + HIDDEN),
    "a chunk size ended by LF": post(TE, body=b"1\nA\r\n0\r\n\r\n" + HIDDEN),
    "CL folded into another header": post(b"X: a\r\n " + CL % len(HIDDEN), body=HIDDEN),
    "NUL in a header": post(b"X: a\x00b", body=HIDDEN),
    "a space before the first header": b"GET /health/live HTTP/1.1\r\n Host: x\r\nHost: y\r\n\r\n" + HIDDEN,
    "no version": b"GET /health/live\r\n\r\n" + HIDDEN,
    "HTTP/1.1.1": b"GET /health/live HTTP/1.1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "HTTP/2.0": b"GET /health/live HTTP/2.0\r\nHost: x\r\n\r\n" + HIDDEN,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "a target with a line end": b"GET /x\x0d\x0bHost HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
}


async def said_to(port: int, request: bytes, silent_s: float = 0.4) -> list[bytes]:
    """Return the status lines that come back until the server closes or is silent."""
    answer = b""
    async with dialled(port) as peer:
        await peer.send(request)
        try:
            while True:
                async with asyncio.timeout(silent_s):
                    piece = await peer.reader.read(65_536)
                if not piece:
                    break
                answer += piece
        except (TimeoutError, ConnectionError):
            pass
    return re.findall(rb"HTTP/1\.1 (\d{3})", answer)


def served(logs: list[dict[str, Any]]) -> list[str]:
    return [str(entry["path"]) for entry in logs if entry["event"] == "request_served"]


async def test_what_is_hidden_in_an_ambiguous_request_is_never_served(
    start_on_socket: Start, logs: list[dict[str, Any]], subtests: pytest.Subtests
) -> None:
    async with start_on_socket() as service:
        port = port_of(service)
        cases = list(AMBIGUOUS.items())
        answers = await asyncio.gather(*(said_to(port, request) for _, request in cases))
        for (name, _), statuses in zip(cases, answers, strict=True):
            with subtests.test(name):
                assert len(statuses) <= 1, statuses
        assert "/smuggled" not in served(logs), logs
        assert (await service.http.get("/health/live")).status_code == 200


async def test_what_is_hidden_is_served_where_it_is_no_secret(
    start_on_socket: Start, logs: list[dict[str, Any]]
) -> None:
    """Otherwise the test above would find nothing anywhere."""
    async with start_on_socket() as service:
        port = port_of(service)
        for request in (
            post(CL % 0),
            post(TE, body=b"0\r\n\r\n"),
            post(TE, body=b"1;a=b\r\nA\r\n0\r\nTrailer: x\r\n\r\n"),
        ):
            logs.clear()
            assert len(await said_to(port, request + HIDDEN)) == 2
            assert served(logs) == ["/auth/token", "/smuggled"]


async def test_requests_in_one_go_are_answered_in_order_each_as_its_own_caller(
    start_on_socket: Start, logs: list[dict[str, Any]]
) -> None:
    async with start_on_socket() as service:
        await service.parts["readiness"].wait()
        chats = [await talk(service) for _ in range(5)]
        logs.clear()
        request = b""
        for number, chat in enumerate([*chats, None, *chats]):
            token = f"Authorization: {chat.account.headers['Authorization']}\r\n" if chat else ""
            request += (
                f"GET /auth/me HTTP/1.1\r\nHost: x\r\nX-Request-ID: request-{number:04}\r\n{token}\r\n"
            ).encode()
        async with dialled(port_of(service)) as peer:
            await peer.send(request + b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = (await peer.rest()).decode()

        assert re.findall(r"x-request-id: (request-\d{4})", answer) == [f"request-{n:04}" for n in range(11)]
        assert re.findall(r"HTTP/1.1 (\d{3})", answer) == ["200"] * 5 + ["401"] + ["200"] * 6
        told = [chat.account.user["id"] for chat in chats]
        assert re.findall(r'"id":"([^"]+)"', answer) == told * 2
        lines = [entry for entry in logs if entry["event"] == "request_served" and entry["path"] == "/auth/me"]
        assert [entry["request_id"] for entry in lines] == [f"request-{n:04}" for n in range(11)]


async def test_a_request_says_nothing_of_the_one_before_it(start_on_socket: Start, logs: list[dict[str, Any]]) -> None:
    """What one request has told of itself does not stand in the log line of the next one on its connection."""
    async with chatting(start_on_socket) as service:
        first, second = await talk(service), await talk(service)
        body = json.dumps({"message": "Hello", "conversation_id": first.id}).encode()
        asks = (
            f"POST /chat/send HTTP/1.1\r\nHost: x\r\nAuthorization: {first.account.headers['Authorization']}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        looks = (
            f"GET /auth/me HTTP/1.1\r\nHost: x\r\nAuthorization: {second.account.headers['Authorization']}\r\n"
            "Connection: close\r\n\r\n"
        )
        logs.clear()
        async with dialled(port_of(service)) as peer:
            await peer.send(asks.encode() + body + looks.encode())
            answer = await peer.rest()

        assert re.findall(rb"HTTP/1.1 (\d{3})", answer) == [b"200", b"200"]
        asked, looked = (entry for entry in logs if entry["event"] == "request_served")
        assert (asked["path"], asked["conversation_id"]) == ("/chat/send", first.id)
        assert looked["path"] == "/auth/me"
        assert "conversation_id" not in looked


async def test_a_body_is_not_the_beginning_of_the_next_request(start_on_socket: Start) -> None:
    """An answer before the end of a body leaves the rest of it on the wire."""
    async with start_on_socket(PARLEY_BODY_LIMIT_BYTES="100") as service:
        body = HIDDEN * 20
        assert await said_to(port_of(service), post(CL % len(body), body=body)) == [b"413"]
        assert await said_to(port_of(service), post(CL % len(body), body=body) + HIDDEN) == [b"413", b"404"]
