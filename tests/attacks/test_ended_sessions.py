"""Tokens of sessions that ended (RELIABILITY 5: 7): refused at once here, and within 5 s by every other worker."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg
import httpx
import pytest
from tests.attacks.claims import assert_refused
from tests.conftest import Start
from tests.fixtures.service import PASSWORD, SECRET, Account, Service

from parley.auth.tokens import TokenCodec

PROMISED_S = 5.0
ACCESS_S = 15 * 60
End = Callable[[Service, Account], Awaitable[object]]


async def me(worker: Service, account: Account) -> httpx.Response:
    return await worker.http.get("/auth/me", headers=account.headers)


async def log_out(worker: Service, account: Account) -> object:
    return await worker.http.post("/auth/logout", headers=account.headers)


async def log_out_everywhere(worker: Service, account: Account) -> object:
    return await worker.http.post("/auth/logout-everywhere", headers=account.headers)


async def change_password(worker: Service, account: Account) -> object:
    body = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}
    return await worker.http.post("/auth/password", json=body, headers=account.headers)


async def disable(worker: Service, account: Account) -> object:
    return await worker.parts["auth"].set_disabled(account.user["email"], disabled=True)


async def give_another_role(worker: Service, account: Account) -> object:
    return await worker.parts["auth"].set_role(account.user["email"], "operator")


async def refused_after(worker: Service, account: Account) -> float:
    """Return the seconds until the worker refuses the account."""
    began = time.monotonic()
    while (await me(worker, account)).status_code == 200:
        assert time.monotonic() - began < PROMISED_S, "still taken"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


WAYS = [log_out, log_out_everywhere, change_password, disable, give_another_role]


@pytest.mark.parametrize("end", WAYS, ids=lambda end: end.__name__)
async def test_an_ended_session_is_refused_here_at_once_and_elsewhere_within_5_s(start: Start, end: End) -> None:
    async with start() as here, start() as there:
        account = await here.register()
        bystander = await here.register()
        assert (await me(there, account)).status_code == 200

        await end(here, account)

        expected = (403, "account_disabled") if end is disable else (401, "token_revoked")
        assert_refused(await me(here, account), expected[0], code=expected[1])
        await refused_after(there, account)
        assert_refused(await me(there, account), expected[0], code=expected[1])
        for worker in (here, there):
            assert (await me(worker, bystander)).status_code == 200


async def test_without_redis_the_others_hear_of_it_within_5_s_from_the_database(start: Start) -> None:
    nowhere = "redis://127.0.0.1:1"
    async with start(PARLEY_REDIS_URL=nowhere) as here, start(PARLEY_REDIS_URL=nowhere) as there:
        account = await here.register()
        await log_out(here, account)

        assert_refused(await me(here, account), 401, code="token_revoked")
        print(f"without Redis the other worker refused after {await refused_after(there, account):.2f} s")


async def test_a_worker_that_starts_later_refuses_what_ended_before(start: Start) -> None:
    async with start() as here:
        account = await here.register()
        await log_out(here, account)
        async with start() as newcomer:
            await refused_after(newcomer, account)


async def test_logging_out_ends_one_device_and_everywhere_ends_all(service: Service) -> None:
    phone = await service.register()
    laptop = Account.of(await service.log_in(phone.user["email"]))

    await log_out(service, phone)
    assert (await me(service, laptop)).status_code == 200

    tablet = Account.of(await service.log_in(phone.user["email"]))
    await log_out_everywhere(service, laptop)
    for device in (laptop, tablet):
        assert_refused(await me(service, device), 401, code="token_revoked")


async def test_after_a_password_change_only_the_new_session_and_password_are_good(service: Service) -> None:
    account = await service.register()
    body = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}
    changed = Account.of(await service.http.post("/auth/password", json=body, headers=account.headers))

    assert (await me(service, changed)).status_code == 200
    assert_refused(await service.log_in(account.user["email"]), 401, code="wrong_credentials")
    assert (await service.log_in(account.user["email"], PASSWORD + "!")).status_code == 200


async def test_a_guest_who_registers_leaves_no_token_behind(service: Service) -> None:
    guest = await service.guest()
    body = {"email": "ada@shop.example", "password": PASSWORD}
    ada = Account.of(await service.http.post("/auth/register", json=body, headers=guest.headers))

    assert ada.user["id"] == guest.user["id"]
    assert_refused(await me(service, guest), 401, code="token_revoked")
    refreshed = await service.http.post("/auth/refresh", json={"refresh_token": guest.refresh_token})
    assert_refused(refreshed, 401, code="token_revoked")
    again = await service.http.post("/auth/register", json=body | {"email": "b@shop.example"}, headers=guest.headers)
    assert_refused(again, 401, code="token_revoked")


async def test_a_disabled_account_is_told_so_only_with_the_right_password(service: Service) -> None:
    account = await service.register()
    await disable(service, account)

    assert_refused(await service.log_in(account.user["email"]), 403, code="account_disabled")
    assert_refused(await service.log_in(account.user["email"], "wrong password"), 401, code="wrong_credentials")


async def test_an_access_token_of_a_deleted_account_is_refused(start: Start, database_url: str) -> None:
    async with start() as service:
        account = await service.register()
        connection = await asyncpg.connect(database_url)
        await connection.execute("DELETE FROM users")
        await connection.close()

        assert_refused(await me(service, account), 401)
        body = {"refresh_token": account.refresh_token}
        assert_refused(await service.http.post("/auth/refresh", json=body), 401)


async def test_no_access_token_outlives_a_quarter_of_an_hour_unless_told_to(service: Service) -> None:
    account = await service.register()
    claims = TokenCodec([SECRET], "parley", "parley").decode_access(account.access_token, time.time())
    assert claims.exp - time.time() <= ACCESS_S


async def test_an_access_token_ends_by_itself(start: Start) -> None:
    async with start(PARLEY_AUTH_ACCESS_TTL_S="1") as service:
        account = await service.register()
        await refused_after(service, account)

        assert_refused(await me(service, account), 401, code="token_expired")
