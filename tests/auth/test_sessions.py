"""Sessions: tokens rotate, and what ends a session ends it on every worker."""

import asyncio
import time

import pytest
from sqlalchemy import text
from tests.conftest import Start
from tests.fixtures.service import PASSWORD, Account, Service

NEW_PASSWORD = "another horse battery"
REVOCATION_S = 5.0  # what is promised


async def me(service: Service, account: Account) -> tuple[int, str | None]:
    answer = await service.http.get("/auth/me", headers=account.headers)
    return answer.status_code, answer.json().get("error", {}).get("code")


async def until_refused(service: Service, account: Account) -> tuple[int, str | None]:
    started = time.monotonic()
    while (answer := await me(service, account))[0] == 200:
        assert time.monotonic() - started < REVOCATION_S, "still let in after 5 s"
        await asyncio.sleep(0.05)
    return answer


async def refresh(service: Service, token: str) -> tuple[int, str | None, Account | None]:
    answer = await service.http.post("/auth/refresh", json={"refresh_token": token})
    if answer.status_code == 200:
        return 200, None, Account.of(answer)
    return answer.status_code, answer.json()["error"]["code"], None


async def test_a_refresh_token_is_exchanged_for_a_newer_pair(service: Service) -> None:
    account = await service.register()

    status, _, newer = await refresh(service, account.refresh_token)

    assert status == 200
    assert newer is not None
    assert newer.user["id"] == account.user["id"]
    assert newer.refresh_token != account.refresh_token
    assert await me(service, newer) == (200, None)
    assert (await refresh(service, newer.refresh_token))[0] == 200


async def test_of_two_refreshes_at_once_one_wins_and_nobody_is_signed_out(service: Service) -> None:
    account = await service.register()

    outcomes = await asyncio.gather(*(refresh(service, account.refresh_token) for _ in range(5)))

    won = [outcome for outcome in outcomes if outcome[0] == 200]
    assert len(won) == 1
    assert {code for status, code, _ in outcomes if status != 200} == {"refresh_superseded"}
    assert won[0][2] is not None
    assert await me(service, won[0][2]) == (200, None)


async def test_a_refresh_token_used_again_later_ends_the_session(start: Start) -> None:
    async with start(PARLEY_AUTH_REFRESH_GRACE_S="0.01") as service:
        account = await service.register()
        _, _, newer = await refresh(service, account.refresh_token)
        assert newer is not None
        await asyncio.sleep(0.05)

        assert (await refresh(service, account.refresh_token))[:2] == (401, "token_revoked")
        assert (await refresh(service, newer.refresh_token))[:2] == (401, "token_revoked")
        assert await me(service, newer) == (401, "token_revoked")


async def test_an_expired_refresh_token_is_refused(start: Start) -> None:
    async with start(PARLEY_AUTH_REFRESH_TTL_S="1") as service:
        account = await service.register()
        await asyncio.sleep(1.1)

        assert (await refresh(service, account.refresh_token))[:2] == (401, "invalid_token")


async def test_an_access_token_says_when_it_is_too_old(start: Start) -> None:
    async with start(PARLEY_AUTH_ACCESS_TTL_S="1") as service:
        account = await service.register()
        await asyncio.sleep(1.1)

        answer = await service.http.get("/auth/me", headers=account.headers)

    assert answer.json()["error"]["code"] == "token_expired"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_logging_out_ends_one_session_and_everywhere_ends_all(service: Service) -> None:
    await service.register("ada@shop.example")
    phone, laptop, tablet = [Account.of(await service.log_in("ada@shop.example")) for _ in range(3)]

    assert (await service.http.post("/auth/logout", headers=phone.headers)).status_code == 204
    assert [await me(service, device) for device in (phone, laptop)] == [(401, "token_revoked"), (200, None)]
    assert (await refresh(service, phone.refresh_token))[:2] == (401, "token_revoked")

    assert (await service.http.post("/auth/logout-everywhere", headers=laptop.headers)).status_code == 204
    assert await me(service, tablet) == (401, "token_revoked")


@pytest.mark.parametrize("redis", ["present", "away"])
async def test_a_session_that_ends_ends_on_every_worker_within_five_seconds(start: Start, redis: str) -> None:
    away = {"PARLEY_REDIS_URL": "redis://127.0.0.1:1"} if redis == "away" else {}
    async with start(**away) as here, start(**away) as there:
        account = await here.register()
        assert await me(there, account) == (200, None)

        await here.http.post("/auth/logout", headers=account.headers)

        assert await until_refused(there, account) == (401, "token_revoked")


async def test_a_worker_that_starts_later_knows_what_ended_before(start: Start) -> None:
    async with start() as here:
        account = await here.register()
        await here.http.post("/auth/logout", headers=account.headers)

    async with start() as later:
        assert await until_refused(later, account) == (401, "token_revoked")


async def test_a_new_password_ends_every_other_session(service: Service) -> None:
    account = await service.register("ada@shop.example")
    other = Account.of(await service.log_in("ada@shop.example"))

    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    answer = await service.http.post("/auth/password", json=body, headers=account.headers)

    assert answer.status_code == 200
    assert await me(service, Account.of(answer)) == (200, None)
    assert await me(service, account) == (401, "token_revoked")
    assert await me(service, other) == (401, "token_revoked")
    assert (await service.log_in("ada@shop.example", PASSWORD)).status_code == 401
    assert (await service.log_in("ada@shop.example", NEW_PASSWORD)).status_code == 200


async def test_a_wrong_current_password_changes_nothing(service: Service) -> None:
    account = await service.register()

    body = {"current_password": "not this one", "new_password": NEW_PASSWORD}
    answer = await service.http.post("/auth/password", json=body, headers=account.headers)

    assert (answer.status_code, answer.json()["error"]["param"]) == (401, "current_password")
    assert await me(service, account) == (200, None)


async def test_a_disabled_account_is_told_so_and_only_with_the_right_password(service: Service) -> None:
    account = await service.register("ada@shop.example")

    await service.parts["auth"].set_disabled("ada@shop.example", disabled=True)

    assert await me(service, account) == (403, "account_disabled")
    assert (await service.log_in("ada@shop.example")).json()["error"]["code"] == "account_disabled"
    assert (await service.log_in("ada@shop.example", "wrong password")).json()["error"]["code"] == "wrong_credentials"
    assert (await refresh(service, account.refresh_token))[:2] == (403, "account_disabled")
    await service.parts["auth"].set_disabled("ada@shop.example", disabled=False)
    assert (await service.log_in("ada@shop.example")).status_code == 200


async def test_a_new_role_ends_the_sessions_that_carry_the_old_one(service: Service) -> None:
    account = await service.register("ada@shop.example")

    await service.parts["auth"].set_role("ada@shop.example", "admin")

    assert await me(service, account) == (401, "token_revoked")
    assert Account.of(await service.log_in("ada@shop.example")).user["role"] == "admin"


async def test_a_guest_who_registers_keeps_the_account_but_not_the_tokens(service: Service) -> None:
    guest = await service.guest()
    assert guest.user["is_guest"]

    account = await service.register("ada@shop.example", **guest.headers)

    assert account.user["id"] == guest.user["id"]
    assert not account.user["is_guest"]
    assert await me(service, guest) == (401, "token_revoked")
    assert (await service.log_in("ada@shop.example")).status_code == 200


async def test_a_registered_account_cannot_be_claimed_again(service: Service) -> None:
    account = await service.register()

    body = {"email": "other@shop.example", "password": PASSWORD}
    answer = await service.http.post("/auth/register", json=body, headers=account.headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "already_registered")


async def test_an_address_is_taken_whatever_its_spelling(service: Service) -> None:
    await service.register("ada@shop.example")

    answer = await service.http.post(
        "/auth/register",
        json={"email": "\uff21DA@Shop.Example ", "password": PASSWORD},  # a full-width A
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "email_taken")


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", "http://localhost.evil.example"])
async def test_guests_come_from_listed_pages_only(start: Start, origin: str | None) -> None:
    async with start(PARLEY_ALLOWED_ORIGINS="https://shop.example") as service:
        headers = {"Origin": origin} if origin else {}
        refused = await service.http.post("/auth/guest", json={}, headers=headers)
        admitted = await service.guest("https://shop.example")

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_refused")
    assert admitted.user["role"] == "user"


async def test_several_secrets_are_accepted_and_the_first_signs(start: Start) -> None:
    old, new = "old-secret-0123456789abcdefghijklmnopqrstuvwxyz", "new-secret-0123456789abcdefghijklmnopqrstuvwxyz"
    async with start(PARLEY_AUTH_SECRETS=old) as before:
        account = await before.register()
    async with start(PARLEY_AUTH_SECRETS=f"{new},{old}") as during:
        assert await me(during, account) == (200, None)
        newer = (await refresh(during, account.refresh_token))[2]
    async with start(PARLEY_AUTH_SECRETS=new) as after:
        assert newer is not None
        assert await me(after, newer) == (200, None)
        assert await me(after, account) == (401, "invalid_token")


async def test_a_password_made_at_another_cost_is_hashed_again_at_log_in(start: Start) -> None:
    async with start(PARLEY_AUTH_BCRYPT_COST="4") as cheap:
        await cheap.register("ada@shop.example")
    async with start(PARLEY_AUTH_BCRYPT_COST="5") as dear:
        assert (await dear.log_in("ada@shop.example")).status_code == 200
        assert (await dear.log_in("ada@shop.example")).status_code == 200
        async with dear.parts["database"].transaction() as db:
            stored = await db.scalar(text("SELECT password_hash FROM users WHERE email = 'ada@shop.example'"))
    assert str(stored).startswith("$2b$05$")


async def test_who_did_what_is_in_the_audit_log(service: Service) -> None:
    account = await service.register("ada@shop.example")
    await service.log_in("ada@shop.example", "wrong password")
    await service.parts["auth"].set_role("ada@shop.example", "operator")

    async with service.parts["database"].transaction() as db:
        rows = (await db.execute(text("SELECT action, subject_id, address, detail FROM audit_log ORDER BY id"))).all()

    assert [row.action for row in rows] == ["registered", "login_failed", "role_changed"]
    assert {str(row.subject_id) for row in rows} == {account.user["id"]}
    assert rows[0].address == "127.0.0.1"
    assert rows[2].detail == {"was": "user", "now": "operator"}


async def test_a_log_in_that_races_with_being_disabled_leaves_no_live_session(service: Service) -> None:
    await service.register("ada@shop.example")
    accounts = service.parts["auth"]

    outcomes = await asyncio.gather(
        *(service.log_in("ada@shop.example") for _ in range(4)),
        accounts.set_disabled("ada@shop.example", disabled=True),
        *(service.log_in("ada@shop.example") for _ in range(4)),
    )

    assert getattr(outcomes[4], "is_disabled", False)
    async with service.parts["database"].transaction() as db:
        assert await db.scalar(text("SELECT count(*) FROM sessions WHERE revoked_at IS NULL")) == 0


async def test_being_disabled_waits_for_a_log_in_that_has_begun(service: Service) -> None:
    account = await service.register("ada@shop.example")
    async with service.parts["database"].transaction() as db:
        # What a log-in does between reading the account and its commit.
        await db.execute(text("SELECT 1 FROM users WHERE email = 'ada@shop.example' FOR UPDATE"))
        disabling = asyncio.create_task(service.parts["auth"].set_disabled("ada@shop.example", disabled=True))
        await asyncio.sleep(0.2)
        assert not disabling.done()
        await db.execute(
            text("INSERT INTO sessions (id, user_id, expires_at) VALUES (gen_random_uuid(), :user, now())"),
            {"user": account.user["id"]},
        )
    await disabling

    async with service.parts["database"].transaction() as db:
        assert await db.scalar(text("SELECT count(*) FROM sessions WHERE revoked_at IS NULL")) == 0
