"""Guessing at the door (RELIABILITY 5: 32): who has an account is not told by status, body or time."""

import asyncio
import time
import unicodedata

import httpx
import pytest
from tests.attacks.claims import assert_refused, statuses_of
from tests.conftest import Start
from tests.fixtures.service import PASSWORD, Service

KNOWN, UNKNOWN, GUEST = "known@shop.example", "unknown@shop.example", "Guest"


def without_ids(answer: httpx.Response) -> dict[str, object]:
    return {name: value for name, value in answer.json().items() if name not in {"instance", "request_id"}}


async def test_a_wrong_password_and_an_unknown_account_answer_the_same(service: Service) -> None:
    await service.register(KNOWN)
    answers = [
        await service.log_in(KNOWN, "wrong password"),
        await service.log_in(UNKNOWN, "wrong password"),
        await service.log_in(UNKNOWN, PASSWORD),
        await service.log_in(KNOWN, PASSWORD + "\0"),
        await service.log_in(KNOWN, "x" * 73),
        await service.log_in(UNKNOWN, "x" * 73),
        await service.log_in("not an address", PASSWORD),
        await service.log_in(GUEST, "any password"),
    ]

    first = answers[0]
    assert_refused(first, 401, code="wrong_credentials")
    for answer in [*answers[1:3], *answers[4:]]:
        assert without_ids(answer) == without_ids(first)
        assert set(answer.headers) == set(first.headers)
    assert_refused(answers[3], 401, 422)


async def test_an_unknown_account_takes_as_long_as_a_known_one(start: Start) -> None:
    """At a cost where hashing is what takes the time; the quickest of each, which no neighbour has slowed."""
    async with start(PARLEY_AUTH_BCRYPT_COST="9") as service:
        await service.register(KNOWN)
        await service.log_in(UNKNOWN)  # the dummy hash is made once
        took: dict[str, list[float]] = {KNOWN: [], UNKNOWN: [], "long": []}
        for _ in range(12):
            for who, email, password in (
                (KNOWN, KNOWN, "wrong password"),
                (UNKNOWN, UNKNOWN, "wrong password"),
                ("long", KNOWN, "x" * 100),
            ):
                began = time.perf_counter()
                assert (await service.log_in(email, password)).status_code == 401
                took[who].append(time.perf_counter() - began)

    quickest = {who: min(times) for who, times in took.items()}
    print("ms:", {who: round(seconds * 1000, 1) for who, seconds in quickest.items()})
    for who in (UNKNOWN, "long"):
        assert 0.7 < quickest[who] / quickest[KNOWN] < 1.4, quickest


async def test_a_password_beyond_what_bcrypt_reads_is_refused_not_cut(service: Service) -> None:
    body = {"email": KNOWN, "password": "x" * 72}
    assert (await service.http.post("/auth/register", json=body)).status_code == 201
    assert (await service.log_in(KNOWN, "x" * 72)).status_code == 200

    for longer in ("x" * 73, "x" * 72 + "y", "x" * 200):
        assert_refused(await service.log_in(KNOWN, longer), 401, code="wrong_credentials")
        answer = await service.http.post("/auth/register", json={"email": UNKNOWN, "password": longer})
        assert_refused(answer, 422, code="validation_error")
    for unfit in ("é" * 37, "💥" * 19, "short", "", "1234567", "nul\0 inside it"):
        answer = await service.http.post("/auth/register", json={"email": UNKNOWN, "password": unfit})
        assert_refused(answer, 422, code="validation_error")


async def test_a_password_is_the_same_however_a_keyboard_writes_it(service: Service) -> None:
    password = "Passwörter né ﬁne №"
    assert (await service.http.post("/auth/register", json={"email": KNOWN, "password": password})).status_code == 201

    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert (await service.log_in(KNOWN, unicodedata.normalize(form, password))).status_code == 200
    for other in (password.upper(), password + " ", " " + password, password.replace("ö", "o")):
        assert_refused(await service.log_in(KNOWN, other), 401, code="wrong_credentials")


async def test_a_guest_has_no_password_to_guess(service: Service) -> None:
    guest = await service.guest()
    body = {"current_password": "", "new_password": PASSWORD}

    answer = await service.http.post("/auth/password", json=body, headers=guest.headers)

    assert_refused(answer, 401, code="wrong_credentials")
    for name in ("", "Guest", "None", "null", guest.user["id"]):
        assert_refused(await service.log_in(name, ""), 401, 422)


async def test_the_log_in_limit_stops_guessing_before_anything_is_hashed(start: Start) -> None:
    async with start(PARLEY_LIMIT_LOGIN="5/minute", PARLEY_AUTH_BCRYPT_COST="10") as service:
        await service.register(KNOWN)
        guesses = [await service.log_in(KNOWN, f"guess number {n}") for n in range(5)]
        began = time.perf_counter()
        refused = await asyncio.gather(*(service.log_in(KNOWN) for _ in range(20)))
        took_s = time.perf_counter() - began

    assert statuses_of(guesses) == [401] * 5
    assert statuses_of(refused) == [429] * 20, "the right password is refused too: the limit does not tell"
    assert took_s < 1.0


async def test_when_too_many_wait_the_door_says_so(start: Start) -> None:
    async with start(PARLEY_AUTH_BCRYPT_COST="10", PARLEY_AUTH_HASH_QUEUE="3", PARLEY_AUTH_HASH_THREADS="1") as service:
        await service.register(KNOWN)
        answers = await asyncio.gather(*(service.log_in(KNOWN) for _ in range(20)))

    busy = [answer for answer in answers if answer.status_code == 503]
    assert statuses_of(answers).count(200) >= 4
    assert len(busy) == 20 - statuses_of(answers).count(200)
    for answer in busy:
        assert_refused(answer, 503, code="sign_in_busy")
        assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("grant", ["client_credentials", "refresh_token", "Password", "authorization_code"])
async def test_no_other_grant_opens_the_door(service: Service, grant: str) -> None:
    await service.register(KNOWN)
    form = {"username": KNOWN, "password": PASSWORD, "grant_type": grant}

    assert_refused(await service.http.post("/auth/token", data=form), 422)
