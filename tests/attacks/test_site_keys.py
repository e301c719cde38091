"""Site keys and signed identities in wrong hands (RELIABILITY 5: 8, 9, 10): a key is public, a secret is one site's."""

import base64
import json
import time
from typing import Any

import asyncpg
import pytest
from jose import jwt
from tests.attacks.claims import assert_refused, assert_silent_about
from tests.attacks.test_foreign_pages import LOOK_ALIKES, NOT_QUITE_LOOPBACK
from tests.auth.sites import OTHER_SHOP, exchange, make_site, signed, site_guest
from tests.conftest import Start
from tests.fixtures.service import PASSWORD, SECRET, Account, Service

DAY_S = 86_400


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forgeries(site: dict[str, Any], other: dict[str, Any]) -> dict[str, str]:
    """Return tokens that must not be taken, each good but for one thing."""
    now = int(time.time())
    claims = {"sub": "customer-1", "exp": now + 600}
    head, body, signature = signed(site).split(".")
    odd_heads = {
        "alg none": {"alg": "none", "typ": "JWT"},
        "alg None": {"alg": "None", "typ": "JWT"},
        "alg HS512": {"alg": "HS512", "typ": "JWT"},
        "alg RS256": {"alg": "RS256", "typ": "JWT"},
        "crit": {"alg": "HS256", "typ": "JWT", "crit": ["exp"]},
        "a key of its own": {"alg": "HS256", "typ": "JWT", "jwk": {"kty": "oct", "k": "AA"}},
        "no alg": {"typ": "JWT"},
    }
    return {
        **{what: f"{part(odd)}.{part(claims)}.{signature}" for what, odd in odd_heads.items()},
        "no signature": f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}.",
        "signature cut off": f"{head}.{body}.",
        "another body": f"{head}.{part({**claims, 'sub': 'customer-2'})}.{signature}",
        **{
            f"well signed, with {name}": str(jwt.encode(claims, site["secret"], "HS256", headers={name: value}))
            for name, value in {"crit": ["exp"], "jwk": {"kty": "oct"}, "zip": "DEF", "typ": "at+jwt"}.items()
        },
        "HS512 with the right key": str(jwt.encode(claims, site["secret"], "HS512")),
        "another site's key": signed(other),
        "our own key": str(jwt.encode(claims, SECRET, "HS256")),
        "the public key": str(jwt.encode(claims, site["key"], "HS256")),
        "an empty key": str(jwt.encode(claims, " ", "HS256")),
        "no exp": signed(site, exp=None),
        "exp as text": signed(site, exp=str(now + 600)),
        "exp far away": signed(site, exp=now + DAY_S + 3600),
        "exp for ever": signed(site, exp=2**62),
        "exp true": signed(site, exp=True),
        "wrong aud": signed(site, aud="pk_somebody_else"),
        "list of wrong aud": signed(site, aud=[other["key"], "parley"]),
        "empty aud": signed(site, aud=[]),
        "aud of our own tokens": signed(site, aud="parley"),
        "not yet": signed(site, nbf=now + 3600),
        "made tomorrow": signed(site, iat=now + DAY_S),
        "no sub": signed(site, None),
        "empty sub": signed(site, ""),
        "sub with NUL": signed(site, "a\0b"),
        "huge sub": signed(site, "a" * 256),
        "not a token": "a.b.c",
        "one part": "onepart",
    }


async def test_what_a_site_has_not_signed_signs_nobody_in(service: Service, subtests: pytest.Subtests) -> None:
    site, other = await make_site(service), await make_site(service, OTHER_SHOP)
    for what, token in forgeries(site, other).items():
        with subtests.test(what=what):
            answer = await exchange(service, site, token)
            assert_refused(answer, 401, code="invalid_identity")
            assert_silent_about(answer, token, site["secret"])

    assert (await exchange(service, site, signed(site, aud=site["key"]))).status_code == 200
    assert (await exchange(service, site, signed(site, aud=["x", site["key"]]))).status_code == 200


async def test_an_expired_identity_is_told_apart(service: Service) -> None:
    site = await make_site(service)

    answer = await exchange(service, site, signed(site, exp=int(time.time()) - 1))

    assert_refused(answer, 401, code="identity_expired")


async def test_a_huge_token_is_not_worked_on(service: Service) -> None:
    site = await make_site(service)

    assert_refused(await exchange(service, site, signed(site, name="x" * 8000)), 422, code="validation_error")


async def test_an_identity_may_be_sent_again_until_it_expires(service: Service) -> None:
    """The page holds it and may be reloaded; whoever can read it there can act as the user anyway."""
    site = await make_site(service)
    token = signed(site)

    answers = [await exchange(service, site, token) for _ in range(3)]

    assert len({answer.json()["user"]["id"] for answer in answers}) == 1


async def test_keys_are_good_on_their_own_pages_only(start: Start, subtests: pytest.Subtests) -> None:
    """Neither look-alikes nor pages that are listed for others: loopback in development, another site, the settings."""
    async with start(PARLEY_ALLOWED_ORIGINS="https://listed.example") as service:
        site = await make_site(service)
        await make_site(service, OTHER_SHOP)
        strangers = [*LOOK_ALIKES, *NOT_QUITE_LOOPBACK, OTHER_SHOP, "https://listed.example", "http://localhost:3000"]
        for origin in [*strangers, None]:
            with subtests.test(origin=origin):
                assert_refused(await site_guest(service, site, origin), 403, code="origin_refused")
                assert_refused(await exchange(service, site, signed(site), origin=origin), 403, code="origin_refused")

        assert (await site_guest(service, site)).status_code == 201


async def test_no_stranger_gets_in_by_a_key_that_does_not_exist(service: Service, subtests: pytest.Subtests) -> None:
    site = await make_site(service)
    for key in ("pk_", "", "pk_unknown", site["key"] + " ", site["key"].upper(), site["id"], site["secret"], "*", "%"):
        with subtests.test(key=key):
            fake = {**site, "key": key}
            assert_refused(await site_guest(service, fake), 403, 422)
            assert_refused(await exchange(service, fake, signed(site)), 403, 422)


async def test_a_site_gives_nobody_power(service: Service, database_url: str) -> None:
    site = await make_site(service)
    token = signed(site, role="admin", is_admin=True, guest=False, scope="admin", sid=site["admin"].user["id"])

    user = Account.of(await exchange(service, site, token))

    assert user.user["role"] == "user"
    assert_refused(await service.http.get("/auth/sites", headers=user.headers), 403)
    database = await asyncpg.connect(database_url)
    with pytest.raises(asyncpg.CheckViolationError):
        await database.execute("UPDATE users SET role = 'admin' WHERE id = $1", user.user["id"])
    await database.close()


async def test_an_equal_email_or_id_is_not_the_same_person(service: Service) -> None:
    """Otherwise whoever runs a site could become any account of ours by naming it."""
    site = await make_site(service)
    account = await service.register("ada@shop.example")
    admin = site["admin"]

    by_email = Account.of(await exchange(service, site, signed(site, "ada@shop.example", email="ada@shop.example")))
    by_id = Account.of(await exchange(service, site, signed(site, admin.user["id"], email=admin.user["email"])))

    assert len({account.user["id"], admin.user["id"], by_email.user["id"], by_id.user["id"]}) == 4
    assert (by_email.user["email"], by_email.user["contact_email"]) == (None, "ada@shop.example")
    assert (await service.log_in("ada@shop.example")).status_code == 200


async def test_a_named_user_makes_no_account_of_itself(service: Service) -> None:
    """Else an admin could give it a role later, and the site's server would sign in as that."""
    site = await make_site(service)
    user = Account.of(await exchange(service, site, signed(site)))
    body = {"email": "eve@shop.example", "password": PASSWORD}

    answer = await service.http.post("/auth/register", json=body, headers=user.headers)

    assert_refused(answer, 409, code="already_registered")


async def test_who_is_somebody_already_is_not_handed_over(service: Service) -> None:
    site = await make_site(service)
    ada, named = await service.register(), Account.of(await exchange(service, site, signed(site, "customer-2")))
    for account in (ada, named, site["admin"]):
        made = await service.http.post("/chat/conversations", json={}, headers=account.headers)

        user = Account.of(await exchange(service, site, signed(site), guest=account))

        assert user.user["id"] != account.user["id"]
        seen = await service.http.get(f"/chat/conversations/{made.json()['id']}", headers=user.headers)
        assert_refused(seen, 404)
        assert (await service.http.get("/auth/me", headers=account.headers)).status_code == 200


async def test_a_guest_is_handed_over_once(service: Service) -> None:
    """Its ended token opens nothing and moves nothing, in whoever's hands it is."""
    site = await make_site(service)
    guest = Account.of(await site_guest(service, site))
    await service.http.post("/chat/conversations", json={}, headers=guest.headers)
    await exchange(service, site, signed(site), guest=guest)

    thief = await exchange(service, site, signed(site, "thief"), guest=guest)

    assert_refused(thief, 401, code="token_revoked")


async def test_a_disabled_user_stays_out(service: Service, database_url: str) -> None:
    site = await make_site(service)
    user = Account.of(await exchange(service, site, signed(site)))
    database = await asyncpg.connect(database_url)
    await database.execute("UPDATE users SET disabled_at = now() WHERE id = $1", user.user["id"])
    await database.close()

    assert_refused(await exchange(service, site, signed(site)), 403, code="account_disabled")


async def test_odd_names_are_shown_as_nothing_and_refused_nothing(service: Service) -> None:
    site = await make_site(service)
    for name in ("a\tb", "x" * 500, "\u202e" + "y" * 99, "", None):
        answer = await exchange(service, site, signed(site, "odd", name=name, email="no address"))
        assert answer.status_code == 200
        assert len(answer.json()["user"]["name"]) <= 100
        assert answer.json()["user"]["contact_email"] is None
