"""Who calls: only listed proxies are believed, and only for the hop they saw."""

from ipaddress import ip_network
from typing import Any

import pytest

from parley.core.client_address import client_address

PROXY = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def scope(peer: str | None, *headers: tuple[str, str], scheme: str = "http") -> dict[str, Any]:
    return {
        "type": "http",
        "scheme": scheme,
        "client": (peer, 1234) if peer else None,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # nobody asked this one
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),  # the left one is the caller's own claim
        ("10.0.0.1", ["1.2.3.4", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),  # through two of ours
        ("10.0.0.1", ["not-an-ip<script>"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, garbage"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, " + "x" * 8000], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:203.0.113.9", [], "203.0.113.9"),
        (None, ["198.51.100.1"], "local"),
    ],
)
def test_the_last_hop_nobody_of_ours_made_is_the_caller(peer: str | None, forwarded: list[str], expected: str) -> None:
    caller = client_address(scope(peer, *(("x-forwarded-for", value) for value in forwarded)), PROXY)

    assert str(caller) == expected


def test_customers_of_an_ipv6_provider_count_as_one_by_their_network() -> None:
    keys = {client_address(scope(f"2001:db8:1:2::{n:x}"), []).limit_key for n in range(1, 50)}

    assert keys == {"2001:db8:1:2::/64"}


def test_loopback_behind_a_proxy_that_is_not_listed_is_not_loopback() -> None:
    assert client_address(scope("127.0.0.1"), []).is_loopback
    assert not client_address(scope("127.0.0.1", ("x-forwarded-for", "203.0.113.9")), []).is_loopback
    assert not client_address(scope("127.0.0.1", ("forwarded", "for=203.0.113.9")), []).is_loopback
    assert not client_address(
        scope("127.0.0.1", ("x-forwarded-for", "203.0.113.9")), [ip_network("127.0.0.0/8")]
    ).is_loopback


def test_the_scheme_is_believed_from_a_listed_proxy_only() -> None:
    https = ("x-forwarded-proto", "https")

    assert client_address(scope("10.0.0.1", https), PROXY).scheme == "https"
    assert client_address(scope("203.0.113.9", https), PROXY).scheme == "http"
    assert client_address(scope("10.0.0.1", ("x-forwarded-proto", "gopher")), PROXY).scheme == "http"
    assert client_address(scope("203.0.113.9", scheme="wss"), PROXY).scheme == "https"
