"""Forged and damaged access tokens (RELIABILITY 5: 1-5): each is a 401 in the one shape, none is a log line."""

import base64
import hashlib
import hmac
import itertools
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jws
from tests.attacks.claims import assert_refused, statuses_of
from tests.conftest import Start
from tests.fixtures.service import SECRET, Account, Service, from_address, settings_for

from parley.auth.tokens import MAX_TOKEN_CHARS, key_id
from parley.settings import SettingsError

Json = dict[str, Any]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims_of(account: Account) -> Json:
    middle = account.access_token.split(".")[1]
    claims: Json = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return claims


def token_of(claims: object, header: object = None, secret: bytes = SECRET.encode()) -> str:
    """Return a token signed with our own key, whatever it says."""
    header = {"alg": "HS256", "typ": "JWT", "kid": key_id(SECRET)} if header is None else header
    texts = [part if isinstance(part, str) else json.dumps(part) for part in (header, claims)]
    signed = ".".join(b64(text.encode()) for text in texts)
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


async def ask(service: Service, token: str | bytes) -> Any:
    value = token.encode() if isinstance(token, str) else token
    return await service.http.get("/auth/me", headers={b"Authorization": b"Bearer " + value})


async def assert_all_refused(service: Service, tokens: dict[str, str]) -> None:
    taken = []
    for what, token in tokens.items():
        answer = await ask(service, token)
        if answer.status_code == 200:
            taken.append(what)
        else:
            assert_refused(answer, 401)
    assert taken == []


async def test_a_token_made_by_hand_with_our_key_is_taken(service: Service) -> None:
    account = await service.register()

    assert (await ask(service, token_of(claims_of(account)))).status_code == 200


async def test_no_spelling_of_alg_none_is_taken(service: Service) -> None:
    claims = claims_of(await service.register())
    spellings = {"".join(letters) for letters in itertools.product(*((c, c.upper()) for c in "none"))}
    tokens: dict[str, str] = {}
    for spelling in spellings | {"", " none", "none ", "NONE\n", "n\u043ene"}:
        forged = token_of(claims, {"alg": spelling, "typ": "JWT", "kid": key_id(SECRET)})
        unsigned = forged.rpartition(".")[0]
        tokens |= {f"{spelling!r} signed": forged, f"{spelling!r} bare": unsigned + "."}
        tokens |= {f"{spelling!r} two parts": unsigned, f"{spelling!r} any": unsigned + ".AAAA"}
    for odd in (None, [], ["HS256"], {"HS256": 1}, 256, True):
        tokens[f"{odd!r}"] = token_of(claims, {"alg": odd, "typ": "JWT", "kid": key_id(SECRET)})
    tokens["absent"] = token_of(claims, {"typ": "JWT", "kid": key_id(SECRET)})

    await assert_all_refused(service, tokens)


async def test_no_other_algorithm_is_taken_even_with_our_key(service: Service) -> None:
    claims = claims_of(await service.register())
    header = {"kid": key_id(SECRET)}
    declared = ["HS384", "HS512", "hs256", "RS256", "ES256", "PS256", "EdDSA", "dir", "A256KW"]
    tokens = {name: token_of(claims, {"alg": name, "typ": "JWT", **header}) for name in declared}
    tokens |= {f"signed {name}": jws.sign(claims, SECRET, header, name) for name in ("HS384", "HS512")}

    await assert_all_refused(service, tokens)


@pytest.fixture(scope="module")
def public_keys() -> dict[str, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    encoding, form = serialization.Encoding, serialization.PublicFormat
    return {
        "PEM": key.public_bytes(encoding.PEM, form.SubjectPublicKeyInfo),
        "PKCS1 PEM": key.public_bytes(encoding.PEM, form.PKCS1),
        "DER": key.public_bytes(encoding.DER, form.SubjectPublicKeyInfo),
        "OpenSSH": key.public_bytes(encoding.OpenSSH, form.OpenSSH),
    }


async def test_a_public_key_is_no_secret(service: Service, public_keys: dict[str, bytes]) -> None:
    claims = claims_of(await service.register())

    await assert_all_refused(service, {name: token_of(claims, secret=key) for name, key in public_keys.items()})


def test_the_settings_take_no_key_pair_for_a_secret(public_keys: dict[str, bytes]) -> None:
    for name, key in public_keys.items():
        text = base64.b64encode(key).decode() if name == "DER" else key.decode()
        with pytest.raises(SettingsError, match=r"PARLEY_AUTH_SECRETS.*HS256 only"):
            settings_for("postgresql://x/y", "redis://x", PARLEY_AUTH_SECRETS=text)


@pytest.mark.parametrize("secret", ["short", "a" * 64, "abab" * 16, "x" * 31])
def test_the_settings_take_no_weak_secret(secret: str) -> None:
    with pytest.raises(SettingsError, match="PARLEY_AUTH_SECRETS"):
        settings_for("postgresql://x/y", "redis://x", PARLEY_AUTH_SECRETS=secret)


async def test_every_claim_is_needed(service: Service) -> None:
    claims = claims_of(await service.register())
    without = {name: {k: v for k, v in claims.items() if k != name} for name in claims}

    await assert_all_refused(service, {f"no {name}": token_of(rest) for name, rest in without.items()})


NOW = int(time.time())
STRANGE_CLAIMS: dict[str, list[Any]] = {
    "exp": [None, "", str(NOW + 900), NOW + 900.5, float(NOW + 900), True, [NOW + 900], {}, -1, 0, NOW - 1],
    "iat": [None, "now", NOW + 3600, 1e300, -1.0],
    "nbf": [NOW + 3600, NOW - 3600, "0"],
    "aud": [None, "", "others", ["parley"], "Parley", "parley "],
    "iss": [None, "", "others", ["parley"], "parley\x00"],
    "sub": [None, "", 0, "admin", "../../etc", "' OR 1=1 --", ["x"], {"$ne": None}],
    "sid": [None, "", "x" * 36, 0],
    "jti": [None, "", 1, []],
    "typ": [None, "", "refresh", "ticket", "Access", ["access"]],
    "role": [None, "", "root", "Admin", ["admin"]],
    "guest": [None, "false", 0, 1],
    "unknown": [1, None, "x"],
}
NO_TIMES = [float("inf"), float("-inf"), float("nan"), 1e308]


async def test_no_claim_of_another_kind_is_taken(service: Service) -> None:
    claims = claims_of(await service.register())
    strange = [(name, value) for name, values in STRANGE_CLAIMS.items() for value in values]
    strange += [(name, value) for name in ("exp", "iat") for value in NO_TIMES]

    await assert_all_refused(service, {f"{k}={v!r}": token_of({**claims, k: v}) for k, v in strange})


async def test_a_claim_named_twice_does_not_smuggle_another_type(service: Service) -> None:
    claims = claims_of(await service.register())
    twice = json.dumps({**claims, "typ": "ticket"})[:-1] + ', "typ": "access"}'

    answer = await ask(service, token_of(twice))

    assert answer.status_code in {200, 401}
    assert claims["role"] == "user"


async def test_no_header_but_ours_is_taken(service: Service) -> None:
    claims = claims_of(await service.register())
    ours = {"alg": "HS256", "typ": "JWT", "kid": key_id(SECRET)}
    extras: list[Json] = [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"jku": "http://evil.example/keys"},
        {"x5u": "http://evil.example/cert"},
        {"jwk": {"kty": "oct", "k": b64(b"attacker")}},
        {"x5c": ["AAAA"]},
        {"zip": "DEF"},
        {"cty": "JWT"},
        *({"kid": kid} for kid in ("", "../../dev/null", "x' UNION SELECT 'a' --", "\n{}", "%00", "0" * 12)),
        *({"kid": kid} for kid in (None, 1, [key_id(SECRET)], {"a": 1})),
        *({"typ": typ} for typ in ("jwt", "at+jwt", "", None, 1)),
    ]

    await assert_all_refused(service, {json.dumps(extra): token_of(claims, {**ours, **extra}) for extra in extras})


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


async def test_no_deformed_token_is_taken(service: Service) -> None:
    good = (await service.register()).access_token
    head, middle, tail = good.split(".")
    claims = json.dumps({"typ": "access"})
    tokens = {
        "empty": "",
        "blank": " ",
        "dots": "..",
        "None": "None",
        "null": "null",
        "one part": head,
        "two parts": f"{head}.{middle}",
        "four parts": f"{good}.AAAA",
        "five parts, as JWE": f"{head}.{middle}.{tail}.AAAA.AAAA",
        "trailing newline": f"{head}.{middle}.{tail}%0a",
        "trailing text": f"{good} x",
        "trailing comma": f"{good},{good}",
        "padded": f"{head}.{middle}.{tail}=",
        "other alphabet": good.replace("-", "+").replace("_", "/") + "+",
        "no signature": f"{head}.{middle}.",
        "signature of another": f"{head}.{middle}.{b64(b'x' * 32)}",
        "long signature": f"{head}.{middle}.{tail}{tail}",
        "payload changed": f"{head}.{b64(b'{}')}.{tail}",
        "too long": good + "A" * (MAX_TOKEN_CHARS - len(good) + 1),
        "exactly as long as may be": good + "A" * (MAX_TOKEN_CHARS - len(good)),
        "64 KB": "A" * 20_000 + "." + "A" * 20_000 + "." + "A" * 20_000,
        "header of 2,000 levels": token_of(claims, nested(2000)),
        "header of 100 levels": token_of(claims, nested(100)),
        "payload of 1,400 levels": token_of(nested(1400)),
        "payload is a list": token_of("[]"),
        "payload is null": token_of("null"),
        "payload is text": token_of('"access"'),
        "payload is not JSON": token_of("access"),
        "payload in UTF-16": token_of(claims.encode("utf-16").decode("latin-1")),
        "header is null": token_of(claims, "null"),
        "header is a list": token_of(claims, "[]"),
        "header is not JSON": token_of(claims, "HS256"),
    }

    await assert_all_refused(service, tokens)


async def test_bytes_that_are_no_text_are_no_token(service: Service) -> None:
    good = (await service.register()).access_token.encode()
    for token in (b"\xff\xfe", good + "é".encode(), good.replace(b".", b"\xe2\x80\xa4", 1), b"\x80" * 100):
        assert_refused(await ask(service, token), 401)


async def test_only_one_bearer_header_is_taken(service: Service) -> None:
    account = await service.register()
    good = account.headers["Authorization"]
    for values in ([good, good], ["Bearer x", good], [good, "Basic eDp4"]):
        answer = await service.http.get("/auth/me", headers=[("Authorization", value) for value in values])
        assert_refused(answer, 401)
    for value in ("Basic eDp4", account.access_token, "Bearer", "Bearer ", f"Token {account.access_token}"):
        assert_refused(await service.http.get("/auth/me", headers={"Authorization": value}), 401)


async def test_a_token_stands_in_the_header_only(service: Service) -> None:
    token = (await service.register()).access_token
    for url in (f"/auth/me?access_token={token}", f"/auth/me?token={token}", f"/auth/me?ticket={token}"):
        assert_refused(await service.http.get(url), 401)
    assert_refused(await service.http.get("/auth/me", headers={"Cookie": f"access_token={token}"}), 401)


async def test_refresh_tokens_and_access_tokens_do_not_stand_in_for_each_other(service: Service) -> None:
    account = await service.register()
    ticket = (await service.http.post("/auth/ticket", json={}, headers=account.headers)).json()["ticket"]

    for token in (account.refresh_token, ticket, token_of({"typ": "access"}), account.refresh_token + ".a.b"):
        assert_refused(await ask(service, token), 401, code="invalid_token")
    for token in (account.access_token[:256], ticket[:256], "prt_" + "A" * 43, "prt_"):
        answer = await service.http.post("/auth/refresh", json={"refresh_token": token})
        assert_refused(answer, 401, code="invalid_token")
    answer = await service.http.post("/auth/refresh", json={"refresh_token": account.access_token})
    assert_refused(answer, 401, 422)


async def test_a_forged_token_writes_nothing_of_itself_into_the_log(
    service: Service, logs: list[dict[str, Any]]
) -> None:
    claims = claims_of(await service.register())
    canary = 'kid-canary\n{"event":"forged"}'

    await ask(service, token_of(claims, {"alg": "HS256", "typ": "JWT", "kid": canary}))
    await ask(service, token_of({**claims, "sub": "sub-canary"}))

    text = repr(logs)
    assert "canary" not in text
    assert "forged" not in text


async def test_a_forged_token_uses_up_the_limit_of_whoever_sends_it_not_of_its_victim(start: Start) -> None:
    async with start(PARLEY_LIMIT_GENERAL="3/minute") as service:
        victim = await service.register()
        async with from_address(service.app, "203.0.113.9") as stranger:
            answers = []
            for number in range(4):
                forged = token_of({**claims_of(victim), "jti": str(number)}, secret=b"x" * 48)
                answers.append(await stranger.get("/auth/me", headers={"Authorization": f"Bearer {forged}"}))

        assert statuses_of(answers) == [401, 401, 401, 429]
        assert (await ask(service, victim.access_token)).status_code == 200
