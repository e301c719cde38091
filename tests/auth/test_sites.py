"""Sites: made by admins, known to every worker within seconds, and the users their servers name."""

import asyncio

import pytest
from tests.attacks.claims import assert_refused
from tests.auth.sites import OTHER_SHOP, SHOP, exchange, make_site, signed, site_guest
from tests.conftest import Start
from tests.fixtures.service import Account, Service

HEARD_WITHIN_S = 5.0


async def ask(service: Service, account: Account, client_id: str = "q-1") -> str:
    """Ask a question and return the conversation it made."""
    body = {"message": "How do I return a jacket?", "client_id": client_id}
    answer = await service.http.post("/chat/send", json=body, headers=account.headers)
    assert answer.status_code in {200, 202}, answer.text
    return str(answer.json()["conversation_id"])


async def conversations(service: Service, account: Account) -> list[str]:
    answer = await service.http.get("/chat/conversations", headers=account.headers)
    return [one["id"] for one in answer.json()["data"]]


async def test_a_secret_is_shown_when_it_is_made_and_never_again(service: Service) -> None:
    site = await make_site(service)
    address = f"/auth/sites/{site['id']}"

    read = await service.http.get(address, headers=site["admin"].headers)
    rotated = await service.http.post(f"{address}/secret", headers=site["admin"].headers)
    listed = await service.http.get("/auth/sites", headers=site["admin"].headers)

    assert site["key"].startswith("pk_")
    assert site["secret"].startswith("sk_")
    assert read.json() == {name: site[name] for name in ("id", "name", "key", "origins", "is_disabled", "created_at")}
    assert rotated.json()["secret"] not in {site["secret"], None}
    assert "sk_" not in read.text + listed.text


async def test_sites_are_listed_by_keyset(service: Service) -> None:
    made = [await make_site(service, name=f"Shop {number}") for number in range(3)]
    headers = made[0]["admin"].headers

    first = (await service.http.get("/auth/sites?limit=2", headers=headers)).json()
    rest = (await service.http.get(f"/auth/sites?limit=2&after={first['last_id']}", headers=headers)).json()
    back = (await service.http.get(f"/auth/sites?limit=1&before={rest['first_id']}", headers=headers)).json()

    assert [site["id"] for site in first["data"] + rest["data"]] == [site["id"] for site in made]
    assert (first["has_more"], rest["has_more"], back["data"][0]["id"]) == (True, False, made[1]["id"])


async def test_a_patch_changes_what_it_names(service: Service) -> None:
    site = await make_site(service)
    headers, address = site["admin"].headers, f"/auth/sites/{site['id']}"

    renamed = await service.http.patch(address, json={"name": "Store"}, headers=headers)
    moved = await service.http.patch(address, json={"origins": [f"{OTHER_SHOP}:443", OTHER_SHOP]}, headers=headers)

    assert (renamed.json()["name"], renamed.json()["origins"]) == ("Store", [SHOP])
    assert (moved.json()["name"], moved.json()["origins"]) == ("Store", [OTHER_SHOP])
    assert (await site_guest(service, site)).status_code == 403
    assert (await site_guest(service, site, OTHER_SHOP)).status_code == 201


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "shop.example",
        "https://shop.example/path",
        "https://é.example",
        "https://u@b.example",
        "https://b.example#x",
        'https://x"y',
        "",
    ],
)
async def test_an_origin_is_an_origin(service: Service, origin: str) -> None:
    admin = await service.with_role("admin")
    body = {"name": "Shop", "origins": [origin]}

    assert_refused(await service.http.post("/auth/sites", json=body, headers=admin.headers), 422)


async def test_sites_are_for_admins(service: Service) -> None:
    site = await make_site(service)
    for account in (await service.guest(), await service.register(), await service.with_role("operator")):
        for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{site['id']}"), ("PATCH", f"/{site['id']}")):
            answer = await service.http.request(method, f"/auth/sites{path}", json={}, headers=account.headers)
            assert answer.status_code in {403, 422} if method in {"POST", "PATCH"} else answer.status_code == 403
        assert_refused(await service.http.post(f"/auth/sites/{site['id']}/secret", headers=account.headers), 403)


async def test_pages_of_a_site_may_call_and_open_sockets_while_it_is_on(service: Service) -> None:
    before = await service.http.get("/health/live", headers={"Origin": SHOP})
    site = await make_site(service)
    on = await service.http.get("/health/live", headers={"Origin": SHOP})
    guest = Account.of(await site_guest(service, site))
    ticket = await service.http.post("/auth/ticket", json={}, headers={**guest.headers, "Origin": SHOP})
    address = f"/auth/sites/{site['id']}"
    await service.http.patch(address, json={"disabled": True}, headers=site["admin"].headers)
    off = await service.http.get("/health/live", headers={"Origin": SHOP})
    late = await service.http.post("/auth/ticket", json={}, headers={**guest.headers, "Origin": SHOP})

    assert "access-control-allow-origin" not in before.headers
    assert on.headers["access-control-allow-origin"] == SHOP
    assert ticket.status_code == 201
    assert "access-control-allow-origin" not in off.headers
    assert_refused(late, 403, code="origin_refused")
    assert_refused(await site_guest(service, site), 403, code="site_refused")
    await service.http.patch(address, json={"disabled": False}, headers=site["admin"].headers)
    assert (await site_guest(service, site)).status_code == 201


@pytest.mark.parametrize("poll_s", ["0.2", "60"])
async def test_another_worker_hears_that_a_site_is_off(start: Start, poll_s: str) -> None:
    """By its own look into the database when nobody tells it, and at once when somebody does."""
    redis = {"PARLEY_REDIS_URL": "redis://127.0.0.1:1"} if poll_s != "60" else {}
    async with start(**redis) as one, start(PARLEY_AUTH_SITE_POLL_S=poll_s, **redis) as other:
        await asyncio.sleep(0.5)  # its ear is open
        site = await make_site(one)
        assert (await site_guest(other, site)).status_code == 201
        off = await one.http.patch(f"/auth/sites/{site['id']}", json={"disabled": True}, headers=site["admin"].headers)
        assert off.status_code == 200
        async with asyncio.timeout(HEARD_WITHIN_S):
            while (await site_guest(other, site)).status_code != 403:
                await asyncio.sleep(0.05)


async def test_a_site_that_was_just_made_elsewhere_is_known_before_anybody_is_refused(start: Start) -> None:
    deaf = {"PARLEY_AUTH_SITE_POLL_S": "60", "PARLEY_REDIS_URL": "redis://127.0.0.1:1"}
    async with start(**deaf) as one, start(**deaf) as other:
        site = await make_site(one)

        answers = await asyncio.gather(*(site_guest(other, site) for _ in range(20)))
        stranger = await site_guest(other, site | {"key": "pk_of_nobody"})

        assert {answer.status_code for answer in answers} == {201}
        assert_refused(stranger, 403, code="site_refused")


async def test_a_worker_that_has_read_no_site_yet_reads_them(service: Service) -> None:
    site = await make_site(service)
    service.parts["sites"]._known = {}

    assert (await site_guest(service, site)).status_code == 201


async def test_the_same_name_from_the_same_site_is_the_same_user(service: Service) -> None:
    site, other = await make_site(service), await make_site(service, OTHER_SHOP)

    first = Account.of(await exchange(service, site, signed(site, name="Ada", email="Ada@Shop.example")))
    again = Account.of(await exchange(service, site, signed(site, name="Ada L.")))
    foreign = Account.of(await exchange(service, other, signed(other), origin=OTHER_SHOP))
    me = await service.http.get("/auth/me", headers=again.headers)

    assert first.user["id"] == again.user["id"] != foreign.user["id"]
    assert me.json()["name"] == "Ada L."
    assert (me.json()["email"], me.json()["contact_email"]) == (None, "ada@shop.example")
    assert (me.json()["is_guest"], me.json()["role"]) == (False, "user")


async def test_a_guest_becomes_the_user_and_keeps_its_conversations(service: Service) -> None:
    site = await make_site(service)
    guest = Account.of(await site_guest(service, site))
    conversation = await ask(service, guest)

    user = Account.of(await exchange(service, site, signed(site), guest=guest))

    assert user.user["id"] == guest.user["id"]
    assert await conversations(service, user) == [conversation]
    assert_refused(await service.http.get("/auth/me", headers=guest.headers), 401, code="token_revoked")


async def test_a_guests_conversations_move_to_a_user_who_was_there_before(service: Service) -> None:
    site = await make_site(service)
    user = Account.of(await exchange(service, site, signed(site)))
    own = await ask(service, user, "same-id")
    guest = Account.of(await site_guest(service, site))
    moved = await ask(service, guest, "same-id")  # of another author: no repeat

    again = Account.of(await exchange(service, site, signed(site), guest=guest))

    assert again.user["id"] == user.user["id"] != guest.user["id"]
    assert set(await conversations(service, again)) == {own, moved}
    rows = (await service.http.get(f"/chat/conversations/{moved}/messages", headers=again.headers)).json()["data"]
    assert rows[0]["author"]["id"] == user.user["id"]
    assert_refused(await service.http.get("/auth/me", headers=guest.headers), 401, code="token_revoked")
    repeat = await ask(service, again, "same-id")
    assert repeat == own


async def test_many_exchanges_at_once_make_one_user(service: Service) -> None:
    site = await make_site(service)
    guest = Account.of(await site_guest(service, site))
    conversation = await ask(service, guest)

    answers = await asyncio.gather(*(exchange(service, site, signed(site), guest=guest) for _ in range(6)))

    # A token whose session another of them has ended by then is refused, as any ended session is.
    assert {answer.status_code for answer in answers} <= {200, 401}
    users = {answer.json()["user"]["id"] for answer in answers if answer.status_code == 200}
    assert len(users) == 1
    last = Account.of(await exchange(service, site, signed(site)))
    assert await conversations(service, last) == [conversation]


async def test_another_secret_refuses_what_the_old_one_signed_and_renews_nothing(service: Service) -> None:
    site = await make_site(service)
    user = Account.of(await exchange(service, site, signed(site)))
    guest = Account.of(await site_guest(service, site))
    rotated = await service.http.post(f"/auth/sites/{site['id']}/secret", headers=site["admin"].headers)

    old = await exchange(service, site, signed(site))
    renewed = await service.http.post("/auth/refresh", json={"refresh_token": user.refresh_token})
    guests = await service.http.post("/auth/refresh", json={"refresh_token": guest.refresh_token})
    new = Account.of(await exchange(service, site, signed(rotated.json())))
    later = await service.http.post("/auth/refresh", json={"refresh_token": new.refresh_token})

    assert_refused(old, 401, code="invalid_identity")
    assert_refused(renewed, 401, code="token_revoked")
    assert (guests.status_code, later.status_code) == (200, 200)
    assert new.user["id"] == user.user["id"]


async def test_users_of_a_site_that_is_off_are_not_renewed(service: Service) -> None:
    site = await make_site(service)
    user = Account.of(await exchange(service, site, signed(site)))
    await service.http.patch(f"/auth/sites/{site['id']}", json={"disabled": True}, headers=site["admin"].headers)

    renewed = await service.http.post("/auth/refresh", json={"refresh_token": user.refresh_token})

    assert_refused(renewed, 401, code="token_revoked")
