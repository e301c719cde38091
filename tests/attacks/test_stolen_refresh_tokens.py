"""Refresh tokens in the wrong hands or used at the wrong time (RELIABILITY 5: 6)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
from tests.attacks.claims import assert_refused, statuses_of
from tests.conftest import Start
from tests.fixtures.service import PASSWORD, Account, Service

WAIT_S = 5.0


async def refresh(service: Service, token: str) -> httpx.Response:
    return await service.http.post("/auth/refresh", json={"refresh_token": token})


async def me(service: Service, account: Account) -> httpx.Response:
    return await service.http.get("/auth/me", headers=account.headers)


async def test_of_many_parallel_refreshes_one_wins_and_the_session_lives(start: Start) -> None:
    async with start() as one, start() as other:
        account = await one.register()

        answers = await asyncio.gather(
            *(refresh(worker, account.refresh_token) for worker in (one, other) for _ in range(8))
        )

        won = [answer for answer in answers if answer.status_code == 200]
        assert len(won) == 1
        for answer in answers:
            if answer not in won:
                assert_refused(answer, 401, code="refresh_superseded")
        renewed = Account.of(won[0])
        assert (await me(other, renewed)).status_code == 200
        assert (await refresh(one, renewed.refresh_token)).status_code == 200


async def test_within_the_grace_a_second_use_is_refused_and_ends_nothing(service: Service) -> None:
    account = await service.register()
    renewed = Account.of(await refresh(service, account.refresh_token))

    assert_refused(await refresh(service, account.refresh_token), 401, code="refresh_superseded")
    assert (await me(service, renewed)).status_code == 200


async def test_after_the_grace_a_second_use_ends_the_whole_family(start: Start) -> None:
    async with start(PARLEY_AUTH_REFRESH_GRACE_S="0.001") as service:
        first = await service.register()
        other_device = Account.of(await service.log_in(first.user["email"]))
        second = Account.of(await refresh(service, first.refresh_token))
        third = Account.of(await refresh(service, second.refresh_token))

        assert_refused(await refresh(service, first.refresh_token), 401, code="token_revoked")

        for account in (first, second, third):
            assert_refused(await me(service, account), 401, code="token_revoked")
            assert_refused(await refresh(service, account.refresh_token), 401)
        assert (await me(service, other_device)).status_code == 200
        assert (await refresh(service, other_device.refresh_token)).status_code == 200


async def test_reuse_is_written_into_the_audit_log(start: Start, database_url: str) -> None:
    async with start(PARLEY_AUTH_REFRESH_GRACE_S="0.001") as service:
        account = await service.register()
        await refresh(service, account.refresh_token)
        await refresh(service, account.refresh_token)

    async with connected(database_url) as database:
        rows = await database.fetch("SELECT detail::text, actor_id FROM audit_log WHERE action = 'refresh_reused'")
    assert len(rows) == 1
    assert account.refresh_token not in rows[0]["detail"]


async def test_a_refresh_token_that_is_too_old_is_refused(start: Start, database_url: str) -> None:
    async with start() as service:
        account = await service.register()
        async with connected(database_url) as database:
            await database.execute("UPDATE refresh_tokens SET expires_at = now() - interval '1 second'")

        assert_refused(await refresh(service, account.refresh_token), 401, code="invalid_token")


async def test_a_stolen_database_holds_no_refresh_token(start: Start, database_url: str) -> None:
    async with start() as service:
        account = await service.register()

    async with connected(database_url) as database:
        rows = await database.fetch("SELECT * FROM refresh_tokens")
    assert len(rows) == 1
    assert account.refresh_token.encode() not in b"".join(v for v in rows[0].values() if isinstance(v, bytes))
    assert account.refresh_token not in repr(rows)


async def test_after_logout_a_refresh_token_is_worth_nothing(service: Service) -> None:
    account = await service.register()
    other_device = Account.of(await service.log_in(account.user["email"]))
    await service.http.post("/auth/logout", headers=account.headers)

    assert_refused(await refresh(service, account.refresh_token), 401, code="token_revoked")
    assert (await refresh(service, other_device.refresh_token)).status_code == 200


async def test_a_disabled_account_cannot_refresh(service: Service) -> None:
    account = await service.register()
    await service.parts["auth"].set_disabled(account.user["email"], disabled=True)

    assert_refused(await refresh(service, account.refresh_token), 403, code="account_disabled")


async def test_refreshes_logouts_and_password_changes_at_once_never_fail_on_our_side(service: Service) -> None:
    for _ in range(4):
        first = await service.register()
        devices = [Account.of(await service.log_in(first.user["email"])) for _ in range(6)]
        body = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}

        answers = await asyncio.gather(
            *(refresh(service, device.refresh_token) for device in devices),
            *(service.http.post("/auth/password", json=body, headers=first.headers) for _ in range(2)),
            service.http.post("/auth/logout-everywhere", headers=devices[0].headers),
            service.log_in(first.user["email"]),
        )

        assert not [answer.text for answer in answers if answer.status_code >= 500]


async def test_a_refresh_and_a_password_change_do_not_lock_each_other_out(start: Start, database_url: str) -> None:
    """Both lock the account and its sessions; in different orders, PostgreSQL has to kill one of them."""
    async with start() as service, connected(database_url) as database:
        devices = [await service.register()]
        devices += [Account.of(await service.log_in(devices[0].user["email"])) for _ in range(2)]
        body = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}
        in_order = await database.fetch("SELECT id FROM sessions ORDER BY ctid")

        # Somebody else works on the middle session for a moment, so that both stand where they may meet.
        async with database.transaction():
            await database.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", in_order[1]["id"])
            change = asyncio.create_task(
                service.http.post("/auth/password", json=body, headers=devices[0].headers), name="change"
            )
            await waiting_for_locks(database, 1)
            renew = asyncio.create_task(refresh(service, devices[2].refresh_token), name="renew")
            await waiting_for_locks(database, 2)
        answers = await asyncio.gather(change, renew)

        assert [status for status in statuses_of(answers) if status >= 500] == []
        assert answers[0].status_code == 200


async def waiting_for_locks(database: asyncpg.Connection, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while await database.fetchval(query) < count:
            await asyncio.sleep(0.01)
            # In a transaction, who has connected since the first look is not seen otherwise.
            await database.execute("SELECT pg_stat_clear_snapshot()")


@asynccontextmanager
async def connected(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()
