"""Accounts over HTTP, as a client sees them."""

from tests.fixtures.service import PASSWORD, Account, Service


async def test_register_signs_in(service: Service) -> None:
    account = await service.register("Ada@Shop.Example")

    me = await service.http.get("/auth/me", headers=account.headers)

    assert me.status_code == 200
    assert me.json()["email"] == "ada@shop.example"
    assert me.json()["role"] == "user"


async def test_log_in_with_the_password_form(service: Service) -> None:
    await service.register("ada@shop.example")

    answer = await service.log_in("ADA@shop.example", PASSWORD)

    assert answer.status_code == 200
    assert answer.json()["token_type"] == "bearer"
    assert Account.of(answer).user["email"] == "ada@shop.example"
