"""JSON that is none, or too much of it (RELIABILITY 5: 17): a 4xx in the one shape, quickly, and nothing comes back."""

import asyncio
import itertools
import json
import time

import httpx
import pytest
from tests.attacks.claims import assert_refused, assert_silent_about
from tests.fixtures.service import PASSWORD, Service

CANARY = "canary7f3a"
QUICK_S = 1.0  # on a busy machine; what the loop spends on it is measured by the guard over every test
JSON = {"Content-Type": "application/json"}


def command(email: str) -> bytes:
    return b'{"password": "%s", "email": %s}' % (CANARY.encode() * 2, email.encode())


BROKEN = {
    "blank": b" \n ",
    "NaN": command("NaN"),
    "-NaN": command("-NaN"),
    "Infinity": command("Infinity"),
    "-Infinity": command("-Infinity"),
    "leading zero": command("01"),
    "plus": command("+1"),
    "hexadecimal": command("0x10"),
    "5,000 digits": command("9" * 5000),
    "100,000 digits": command("9" * 100_000),
    "lone high surrogate": command('"a\\ud800@b.example"'),
    "lone low surrogate": command('"a\\udc00@b.example"'),
    "reversed pair": command('"\\udc00\\ud800"'),
    "surrogate in a key": b'{"\\ud800": 1}',
    "surrogate in UTF-8": command('"') + b"\xed\xa0\x80" + b'"}',
    "overlong UTF-8": b'{"email": "\xc0\xaf"}',
    "cut UTF-8": b'{"email": "\xe2\x82"}',
    "bytes of no text": b"\xff\xfe\xfd",
    "raw newline in text": b'{"email": "a\nb"}',
    "raw NUL in text": b'{"email": "a\x00b"}',
    "trailing comma": b'{"email": "a",}',
    "trailing data": command('"a@b.example"') + b" " + CANARY.encode(),
    "two documents": command('"a@b.example"') * 2,
    "comment": b'{"email": "a" /* ' + CANARY.encode() + b" */}",
    "single quotes": b"{'email': '" + CANARY.encode() + b"'}",
    "bare word": CANARY.encode(),
    "cut": command('"a@b.example"')[:-1],
    "BOM": b"\xef\xbb\xbf" + command('"a@b.example"'),
    "UTF-16": command('"a@b.example"').decode().encode("utf-16"),
    "UTF-32": command('"a@b.example"').decode().encode("utf-32"),
    "arrays 1,500 deep": b"[" * 1500 + b"]" * 1500,
    "arrays 50,000 deep": b"[" * 50_000 + b"]" * 50_000,
    "objects 1,500 deep": b'{"a":' * 1500 + b"1" + b"}" * 1500,
    "unclosed, 100,000 deep": b"[" * 100_000,
}
MISSHAPEN = {
    "empty": b"",
    "1e999": command("1e999"),
    "-1e999": command("-1e999"),
    "minus zero": command("-0"),
    "tiny number": command("1e-400"),
    "number": command("12.5"),
    "true": command("true"),
    "null": command("null"),
    "list": command('["a@b.example"]'),
    "object": command('{"$ne": null}'),
    "arrays 199 deep": b"[" * 199 + b"]" * 199,
    "arrays 201 deep": b"[" * 201 + b"]" * 201,
    "top-level list": b"[]",
    "top-level text": b'"' + CANARY.encode() + b'"',
    "top-level null": b"null",
    "top-level number": b"1e999",
    "3,000 fields": json.dumps({f"{CANARY} {n}": n for n in range(3000)}).encode(),
    "a field of 100 KB": json.dumps({CANARY + " " + "x" * 100_000: 1}).encode(),
    "fields with markup": json.dumps({f"<script>{CANARY}</script>": 1, f"{CANARY}\r\nSet-Cookie: a=b": 2}).encode(),
}


async def send(service: Service, body: bytes, **headers: str) -> tuple[httpx.Response, float]:
    await asyncio.sleep(0)  # a request in this process may run in one step of the loop: each in a step of its own
    began = time.perf_counter()
    answer = await service.http.post("/auth/register", content=body, headers={**JSON, **headers})
    return answer, time.perf_counter() - began


async def test_what_is_no_json_is_refused(service: Service, subtests: pytest.Subtests) -> None:
    for what, body in BROKEN.items():
        with subtests.test(what):
            answer, took_s = await send(service, body)

            assert_refused(answer, 400, code="invalid_json")
            assert_silent_about(answer, CANARY)
            assert took_s < QUICK_S


async def test_json_of_another_shape_is_refused_with_the_field_named(
    service: Service, subtests: pytest.Subtests
) -> None:
    for what, body in MISSHAPEN.items():
        with subtests.test(what):
            answer, took_s = await send(service, body)

            assert_refused(answer, 422, code="validation_error")
            assert_silent_about(answer, CANARY)
            assert len(answer.json()["errors"]) <= 20
            assert len(answer.content) < 10_000
            assert took_s < QUICK_S


async def test_of_a_name_given_twice_the_last_wins(service: Service) -> None:
    body = b'{"email": "a@b.example", "email": "b@b.example", "password": "%s"}' % PASSWORD.encode()

    assert (await send(service, body))[0].json()["user"]["email"] == "b@b.example"


NOT_CALLED_JSON = [
    "text/plain",
    "",
    "text/html",
    "application/xml",
    "application/jsonx",
    "multipart/form-data",
    "/",
    "a",
]


async def test_json_is_taken_only_when_it_is_called_json(service: Service) -> None:
    """A page of a stranger can send text/plain without asking first."""
    body = json.dumps({"email": "a@b.example", "password": PASSWORD}).encode()
    for content_type in NOT_CALLED_JSON:
        answer, _ = await send(service, body, **{"Content-Type": content_type})

        assert_refused(answer, 400, 415, 422)


FORM_TYPES = [
    "application/json",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    'multipart/form-data; boundary="\xff"',
    "multipart/form-data; boundary=b; charset=undefined",
    "multipart/form-data; boundary=b; charset=unicode_escape",
    "application/x-www-form-urlencoded; charset=utf-16",
    "text/plain",
    "application/x-www-form-urlencoded",
]
NO_FORMS = [
    b"",
    b"%",
    b"%ff=%ff&%00=%00",
    b"username=" + CANARY.encode() + b"&username=b&password=%ed%a0%80",
    b"&" * 5000,
    b"=" * 5000,
    b"a=1&" * 2000,
    b'--b\r\nContent-Disposition: form-data; name="username"\r\n\r\na\\ud800@b.example\r\n--b--\r\n',
    b'--b\r\nContent-Disposition: form-data; name="username"; filename="%s"\r\n\r\nx\r\n--b--\r\n' % CANARY.encode(),
    b'--b\r\nContent-Disposition: form-data; name=""\r\n\r\n' + CANARY.encode(),
    b"--b\r\nX: " + b"y" * 20_000,
    b'{"username": "a@b.example", "password": "' + CANARY.encode() + b'"}',
]


async def test_a_form_that_is_none_is_refused(service: Service, subtests: pytest.Subtests) -> None:
    for content_type, body in itertools.product(FORM_TYPES, NO_FORMS):
        with subtests.test(content_type=content_type, body=body[:24]):
            headers = {b"Content-Type": content_type.encode("latin-1")}

            answer = await service.http.post("/auth/token", content=body, headers=headers)

            assert_refused(answer, 400, 401, 413, 415, 422)
            assert_silent_about(answer, CANARY)


async def test_no_shape_of_json_holds_the_loop(service: Service) -> None:
    """The guard over every test measures it; here with the worst that a body as long as allowed can be."""
    room = service.parts["settings"].server.body_limit_bytes
    for unit, end in ((b"[", b""), (b'{"a":', b""), (b"1,", b"1]"), (b"\\u0041", b'"'), (b'{"a":"', b""), (b"9", b"")):
        start = {b"1,": b"[", b"\\u0041": b'"'}.get(unit, b"")
        body = start + unit * ((room - 8) // len(unit)) + end
        assert_refused((await send(service, body))[0], 400, 422)
