"""Accounts from the command line, on the database of a service that runs."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
from tests.cli.conftest import Parley
from tests.fixtures.service import Account, Service

PASSWORD = "correct horse battery"
HEARD_WITHIN_S = 5.0


async def _answer_turns(service: Service, account: Account, status: int) -> httpx.Response:
    """Ask who we are until the answer is this one; five seconds are the promise."""
    async with asyncio.timeout(HEARD_WITHIN_S):
        while True:
            answer = await service.http.get("/auth/me", headers=account.headers)
            if answer.status_code == status:
                return answer
            assert answer.status_code == 200, answer.text
            await asyncio.sleep(0.05)


async def test_an_account_is_made_with_its_role_and_can_sign_in(
    cold_parley: Parley, service: Service, stores: dict[str, str]
) -> None:
    made = await cold_parley(
        *("users", "create", "Ada@Shop.example", "--name", "Ada [b]", "--role", "operator", "--password-stdin"),
        stdin=f"{PASSWORD}\n",
        **stores,
    )

    assert (made.code, made.err) == (0, "")
    assert made.out.startswith("created ada@shop.example (operator), id ")
    user = Account.of(await service.log_in("ada@shop.example", PASSWORD)).user
    assert (user["name"], user["role"]) == ("Ada [b]", "operator")


async def test_accounts_are_listed_one_a_line(parley: Parley, service: Service, stores: dict[str, str]) -> None:
    first, second = await service.register("b@shop.example"), await service.register("a@shop.example")
    await service.guest()

    listed = await parley("users", "list", **stores)

    rows = [line.split("\t") for line in listed.out.splitlines()]
    assert [(row[0], row[2], row[3], row[5]) for row in rows] == [
        ("b@shop.example", "user", "active", first.user["id"]),
        ("a@shop.example", "user", "active", second.user["id"]),
    ]


async def test_a_disabled_account_is_refused_within_five_seconds_and_comes_back_by_signing_in(
    parley: Parley, service: Service, stores: dict[str, str]
) -> None:
    account = await service.register("ada@shop.example")

    disabled = await parley("users", "disable", "ada@shop.example", **stores)

    assert (disabled.code, disabled.err) == (0, "")
    answer = await _answer_turns(service, account, 403)
    assert answer.json()["error"]["code"] == "account_disabled"
    assert (await service.log_in("ada@shop.example")).status_code == 403
    enabled = await parley("users", "enable", "ADA@shop.example", **stores)
    assert enabled.out == "enabled ada@shop.example\n"
    assert (await service.log_in("ada@shop.example")).status_code == 200


async def _hear(subscriber: Any) -> bytes:
    message = await subscriber.get_message(ignore_subscribe_messages=True, timeout=1.0)
    return bytes(message["data"]) if message else b""


async def test_workers_hear_of_it_over_redis_without_waiting_for_their_next_read(
    parley: Parley, service: Service, stores: dict[str, str]
) -> None:
    account = await service.register("ada@shop.example")
    subscriber = service.parts["redis"].pubsub()
    async with subscriber:
        await subscriber.subscribe("parley:revoked")
        await parley("users", "disable", "ada@shop.example", **stores)
        async with asyncio.timeout(HEARD_WITHIN_S):
            # Channels are the whole server's: other tests are heard as well.
            while b"disabled" not in await _hear(subscriber):
                pass

    await _answer_turns(service, account, 403)


async def test_another_role_ends_the_sessions_that_carry_the_old_one(
    parley: Parley, service: Service, stores: dict[str, str]
) -> None:
    account = await service.register("ada@shop.example")

    changed = await parley("users", "set-role", "ada@shop.example", "admin", **stores)

    assert changed.out == "ada@shop.example has the role admin\n"
    answer = await _answer_turns(service, account, 401)
    assert answer.json()["error"]["code"] == "token_revoked"
    assert Account.of(await service.log_in("ada@shop.example")).user["role"] == "admin"


async def test_without_redis_the_change_is_made_and_said_to_be_unannounced(
    parley: Parley, service: Service, database_url: str
) -> None:
    account = await service.register("ada@shop.example")

    disabled = await parley(
        "users", "disable", "ada@shop.example", DATABASE_URL=database_url, REDIS_URL="redis://127.0.0.1:1"
    )

    assert disabled.code == 0
    assert disabled.err == "warning: revocation not announced (sessions=1)\n"
    await _answer_turns(service, account, 403)


async def test_mistakes_are_one_line_each(parley: Parley, service: Service, stores: dict[str, str]) -> None:
    await service.register("ada@shop.example")
    taken, weak, unknown, no_terminal, no_email, no_role, name = await asyncio.gather(
        parley("users", "create", "ada@shop.example", "--password-stdin", stdin=f"{PASSWORD}\n", **stores),
        parley("users", "create", "eve@shop.example", "--password-stdin", stdin="canary\n", **stores),
        parley("users", "disable", "nobody@shop.example", **stores),
        parley("users", "create", "eve@shop.example", **stores),
        parley("users", "enable", "nobody", **stores),
        parley("users", "set-role", "ada@shop.example", "king", **stores),
        parley("users", "create", "e@shop.example", "--name", "a\tb", "--password-stdin", stdin=PASSWORD, **stores),
    )

    assert (taken.code, taken.error) == (1, "An account with this e-mail address exists.")
    assert (weak.code, weak.error) == (1, "the password must have at least 8 characters")
    assert (unknown.code, unknown.error) == (1, "There is no account nobody@shop.example.")
    assert (no_terminal.code, "--password-stdin" in no_terminal.error) == (1, True)
    assert (no_email.code, "e-mail" in no_email.error) == (2, True)
    assert (no_role.code, "king" in no_role.error) == (2, True)
    assert (name.code, name.error) == (1, "the name must be one line without control characters")


async def test_accounts_live_in_the_embedded_engines_where_no_url_is_set(parley: Parley, data_folder: Path) -> None:
    where = {"PARLEY_DATA_DIR": str(data_folder)}

    made = await parley("users", "create", "ada@shop.example", "--password-stdin", stdin=PASSWORD, **where)
    listed = await parley("users", "list", **where)

    assert (made.code, made.err, listed.err) == (0, "", "")
    assert listed.out.startswith("ada@shop.example\t")
