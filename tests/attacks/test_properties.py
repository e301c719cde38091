"""What holds for any input at all (hypothesis): tokens, text, addresses, and the one shape of every refusal."""

import base64
import json
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jose import jws
from pydantic import TypeAdapter, ValidationError
from tests.attacks.claims import assert_refused
from tests.attacks.processes import in_a_thread
from tests.fixtures.service import SECRET

from parley.auth.passwords import MAX_BYTES, MIN_CHARS, acceptable
from parley.auth.schemas import normal_email
from parley.auth.tokens import AccessClaims, TicketClaims, TokenCodec, TokenInvalid, TokenTooOld, key_id
from parley.core.schemas import Line, Text
from parley.settings import Settings

# Fixtures are not made anew for each case.
settings.register_profile(
    "attacks",
    settings.get_profile("parley"),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY, FEW = (
    settings(settings.get_profile("attacks"), max_examples=300),
    settings(settings.get_profile("attacks"), max_examples=120),
)

NOW = 1_790_000_000
CODEC = TokenCodec([SECRET, "another-secret-0123456789-abcdefghijklmnop"], "parley", "parley")
any_text = st.text(st.characters(exclude_categories=()), max_size=300)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=20,
)
roles = st.sampled_from(["user", "operator", "admin"])
names = st.text(min_size=1, max_size=40)
common: dict[str, st.SearchStrategy[Any]] = {
    "iss": st.just("parley"),
    "aud": st.just("parley"),
    "sub": st.uuids(),
    "sid": st.uuids(),
    "jti": names,
    "iat": st.integers(NOW - 1000, NOW),
    "exp": st.integers(NOW + 1, NOW + 80_000),
    "role": roles,
    "guest": st.booleans(),
}
access_claims = st.builds(AccessClaims, typ=st.just("access"), **common)
ticket_claims = st.builds(
    TicketClaims,
    typ=st.just("ticket"),
    **common,
    origin=st.none() | names,
    conversation=st.none() | st.uuids(),
    ends=st.integers(0, 2**53),
)
GOOD = CODEC.encode(
    AccessClaims(
        typ="access",
        iss="parley",
        aud="parley",
        sub=uuid.UUID(int=1),
        sid=uuid.UUID(int=2),
        jti="j",
        iat=NOW,
        exp=NOW + 900,
        role="user",
        guest=False,
    )
)


def outcome(token: str, kind: type[Any] = AccessClaims) -> object:
    """Return the claims, or None for the two ways a token may be refused; anything else is a bug."""
    try:
        return CODEC.decode(token, kind, NOW)
    except (TokenInvalid, TokenTooOld):
        return None


# Tokens


@MANY
@given(access_claims | ticket_claims)
def test_what_is_signed_is_read_back(claims: AccessClaims | TicketClaims) -> None:
    assert outcome(CODEC.encode(claims), type(claims)) == claims


@FEW
@given(access_claims, ticket_claims)
def test_tokens_and_tickets_are_never_taken_for_each_other(access: AccessClaims, ticket: TicketClaims) -> None:
    assert outcome(CODEC.encode(access), TicketClaims) is None
    assert outcome(CODEC.encode(ticket), AccessClaims) is None


@FEW
@given(access_claims, st.integers(0, 10**6))
def test_a_token_is_too_old_from_its_last_second_on(claims: AccessClaims, later: int) -> None:
    with pytest.raises(TokenTooOld):
        CODEC.decode(CODEC.encode(claims), AccessClaims, claims.exp + later)


@MANY
@given(any_text | st.text("ABCabc012-_.=", max_size=200))
@example("")
@example("..")
@example("\ud800.a.b")
def test_any_text_is_refused_and_breaks_nothing(text: str) -> None:
    assert outcome(text) is None


@MANY
@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=64))
def test_any_bytes_in_the_three_parts_are_refused_and_break_nothing(head: bytes, body: bytes, tail: bytes) -> None:
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (head, body, tail)]
    assert outcome(".".join(parts)) is None


@MANY
@given(st.integers(0, len(GOOD) - 1), st.text(min_size=0, max_size=3))
def test_a_changed_token_is_refused_or_says_the_same(place: int, change: str) -> None:
    """The last letter of base64 has bits that count for nothing: such a change changes nothing."""
    changed = GOOD[:place] + change + GOOD[place + 1 :]

    assert outcome(changed) in (None, outcome(GOOD))


@MANY
@given(any_json | st.dictionaries(st.sampled_from([*sorted(common), "typ"]), any_json))
def test_any_payload_with_our_signature_is_refused_and_breaks_nothing(payload: Any) -> None:
    text = json.dumps(payload).encode()
    token = jws.sign(text, SECRET, {"kid": key_id(SECRET)}, "HS256")
    assert outcome(token) is None
    assert outcome(token, TicketClaims) is None


@MANY
@given(access_claims, st.sampled_from([*sorted(common), "typ"]), any_json)
def test_one_claim_of_another_kind_is_refused_or_is_of_the_kind(claims: AccessClaims, name: str, value: Any) -> None:
    payload = {**msgspec.to_builtins(claims), name: value}
    token = jws.sign(json.dumps(payload).encode(), SECRET, {"kid": key_id(SECRET)}, "HS256")

    read = outcome(token)

    if read is not None:
        assert msgspec.to_builtins(read)[name] == value
        assert type(value) is type(msgspec.to_builtins(claims)[name])


# Text

text_of: Callable[[Any], str] = TypeAdapter(Text).validate_python
line_of: Callable[[Any], str] = TypeAdapter(Line).validate_python


def or_none(make: Callable[[Any], str], value: Any) -> str | None:
    try:
        return make(value)
    except (ValidationError, ValueError):
        return None


@MANY
@given(any_text)
@example("\ud800")
@example("a\0")
@example("\U0001f468\u200d\U0001f469")
def test_text_is_storable_and_unchanged_or_refused(text: str) -> None:
    kept = or_none(text_of, text)

    is_storable = "\0" not in text and not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)
    assert kept == (text if is_storable else None)


@MANY
@given(any_text)
def test_a_line_is_one_line_and_stays_itself(text: str) -> None:
    kept = or_none(line_of, text)

    if kept is not None:
        assert or_none(line_of, kept) == kept
        assert kept == unicodedata.normalize("NFC", kept) == kept.strip()
        assert len(kept.splitlines()) <= 1
        assert not any(unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in kept)
        kept.encode()


@MANY
@given(any_text | st.emails() | st.builds("{}@{}.{}".format, any_text, any_text, any_text))
@example("ǰ@shop.example")
@example("\u0345a@shop.example")
@example("ΐ\u0345@shop.example")
@example("İ@shop.example")
def test_an_address_has_one_form(text: str) -> None:
    kept = or_none(normal_email, text)

    if kept is not None:
        assert or_none(normal_email, kept) == kept
        assert or_none(normal_email, kept.upper()) in (kept, None)
        assert kept.count("@") == 1
        assert len(kept) <= 254
        assert not any(letter.isspace() or unicodedata.category(letter) in {"Cc", "Cs"} for letter in kept)


@MANY
@given(any_text)
def test_a_password_is_hashed_whole_or_refused(text: str) -> None:
    kept = or_none(acceptable, text)

    if kept is not None:
        assert len(kept) >= MIN_CHARS
        assert len(kept.encode()) <= MAX_BYTES
        assert "\0" not in kept
        assert or_none(acceptable, kept) == kept


@MANY
@given(any_text)
def test_a_refused_password_is_not_told_in_the_reason(text: str) -> None:
    if or_none(acceptable, text) is None:
        with pytest.raises(ValueError, match=r"^must "):
            acceptable(text)


# The border

JSON_POSTS = ["register", "refresh", "password", "guest", "ticket"]
CANARY = "q7canary"
field_names = st.sampled_from(
    ["email", "password", "name", "refresh_token", "current_password", "new_password", "conversation_id"]
)
hostile_values = st.recursive(
    st.sampled_from([CANARY, CANARY + "\0", CANARY + "\u2028" + CANARY, "\x1b" + CANARY, f"<{CANARY}>"])
    | any_text.map(lambda text: CANARY + text + "\n" + CANARY)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just(f"{CANARY} "), inner, max_size=2),
    max_leaves=8,
)
hostile_objects = st.dictionaries(
    field_names | any_text.map(lambda text: f"{CANARY} {text}"), hostile_values, max_size=5
)


@pytest.fixture
def http(settings_with: Callable[..., Settings]) -> Iterator[httpx.Client]:
    """A client of a service on a loop of its own, signed in as a user."""
    with in_a_thread(settings_with()) as address, httpx.Client(base_url=address) as client:
        body = {"email": "ada@shop.example", "password": "correct horse battery"}
        token = client.post("/auth/register", json=body).json()["access_token"]
        client.headers.update({"Authorization": f"Bearer {token}", "Origin": "http://localhost:3000"})
        yield client


def assert_refused_in_silence(answer: httpx.Response) -> None:
    if answer.status_code >= 400:
        assert_refused(answer)
        assert CANARY not in answer.text
        assert CANARY not in str(answer.headers)
        assert len(answer.content) < 16_384


@FEW
@given(st.sampled_from(JSON_POSTS), hostile_objects | hostile_values)
def test_any_json_is_taken_or_refused_in_the_one_shape(http: httpx.Client, path: str, body: Any) -> None:
    content = json.dumps(body).encode()
    assert_refused_in_silence(http.post(f"/auth/{path}", content=content, headers={"Content-Type": "application/json"}))


@FEW
@given(
    st.sampled_from([*JSON_POSTS, "token"]),
    st.binary(max_size=300).map(lambda data: data + CANARY.encode() + b" "),
    st.sampled_from(
        ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "text/x"]
    ),
)
def test_any_bytes_are_refused_in_the_one_shape(http: httpx.Client, path: str, body: bytes, kind: str) -> None:
    answer = http.post(f"/auth/{path}", content=body, headers={"Content-Type": kind})

    assert answer.status_code in {400, 401, 422}, answer.text
    assert_refused_in_silence(answer)


@FEW
@given(
    st.dictionaries(st.sampled_from(["username", "password", "grant_type", "scope", "client_id"]) | any_text, any_text)
)
def test_any_form_is_refused_in_the_one_shape(http: httpx.Client, form: dict[str, str]) -> None:
    encodable = {k.encode("utf-8", "replace").decode(): v.encode("utf-8", "replace").decode() for k, v in form.items()}
    answer = http.post("/auth/token", data={**encodable, "scope": CANARY * 40})

    assert answer.status_code in {400, 401, 422}, answer.text
    assert_refused_in_silence(answer)
