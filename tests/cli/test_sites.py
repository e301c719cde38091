"""Sites from the command line, on the database of a service that runs."""

import asyncio

from tests.auth.sites import SHOP, exchange, signed, site_guest
from tests.cli.conftest import Parley
from tests.fixtures.service import Service

HEARD_WITHIN_S = 5.0


def told(out: str) -> dict[str, str]:
    """Return key and secret as they were printed."""
    words = [line.split() for line in out.splitlines()]
    return {word[0]: word[1] for word in words if word[0] in {"key", "secret"}}


async def _guest_turns(service: Service, site: dict[str, str], status: int) -> None:
    async with asyncio.timeout(HEARD_WITHIN_S):
        while (await site_guest(service, site)).status_code != status:
            await asyncio.sleep(0.05)


async def test_a_site_lives_from_the_command_line(
    parley: Parley, cold_parley: Parley, service: Service, stores: dict[str, str]
) -> None:
    made = await cold_parley(
        "sites", "create", "Shop [b]", "--origin", SHOP, "--origin", "https://b.example:443", **stores
    )
    site = told(made.out)

    assert (made.code, made.err) == (0, "")
    await _guest_turns(service, site, 201)
    assert (await exchange(service, site, signed(site))).status_code == 200

    rotated = told((await parley("sites", "rotate", site["key"], **stores)).out)
    assert rotated["key"] == site["key"]
    assert (await exchange(service, site, signed(site))).status_code == 401
    assert (await exchange(service, site, signed(rotated))).status_code == 200

    disabled = await parley("sites", "disable", site["key"], **stores)
    assert (disabled.code, disabled.out) == (0, "disabled Shop [b]; its pages are refused\n")
    await _guest_turns(service, site, 403)
    listed = await parley("sites", "list", **stores)
    row = listed.out.rstrip("\n").split("\t")
    assert row[:4] == ["Shop [b]", site["key"], f"{SHOP} https://b.example", "disabled"]
    assert "sk_" not in listed.out

    await parley("sites", "enable", site["key"], **stores)
    moved = await parley("sites", "set-origins", site["key"], "https://new.example", **stores)
    assert moved.out == "Shop [b] is at https://new.example\n"
    async with asyncio.timeout(HEARD_WITHIN_S):
        while (await site_guest(service, site, "https://new.example")).status_code != 201:
            await asyncio.sleep(0.05)


async def test_mistakes_are_one_line_each(parley: Parley, stores: dict[str, str]) -> None:
    star, unknown, nowhere = await asyncio.gather(
        parley("sites", "create", "Shop", "--origin", "*", **stores),
        parley("sites", "rotate", "pk_unknown", **stores),
        parley("sites", "create", "Shop", **stores),
    )

    assert (star.code, star.error) == (1, "the origin must look like https://shop.example or http://localhost:3000")
    assert (unknown.code, unknown.error) == (1, "There is no site pk_unknown.")
    assert (nowhere.code, "--origin" in nowhere.error) == (2, True)


async def test_the_snippet_is_ready_to_paste(parley: Parley, cold_parley: Parley) -> None:
    key = "pk_0123456789abcdefghijkl"
    given = await cold_parley("embed-snippet", "--origin", "https://chat.example/", "--site", key)
    from_settings = await parley("embed-snippet", PARLEY_PUBLIC_ORIGIN="https://chat.example")

    tag, _, _, *rules = given.out.splitlines()
    assert tag == f'<script async src="https://chat.example/widget.js" data-site="{key}"></script>'
    assert [rule.strip() for rule in rules] == [
        "script-src https://chat.example",
        "connect-src https://chat.example wss://chat.example",
    ]
    assert from_settings.out.startswith('<script async src="https://chat.example/widget.js"></script>\n')


async def test_the_snippet_carries_nothing_into_the_page(parley: Parley) -> None:
    for arguments in (
        ("--origin", 'https://x"onload="alert(1)'),
        ("--site", 'pk_"><script>alert(1)'),
        ("--site", "sk_secret"),
    ):
        answer = await parley("embed-snippet", *arguments)

        assert (answer.code, answer.out) == (1, "")
        assert answer.error
