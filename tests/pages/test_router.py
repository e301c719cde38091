"""What a browser gets: addresses, types, caches, who may load what."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from tests.attacks.claims import assert_refused
from tests.conftest import Start
from tests.fixtures.service import Service, from_address

from parley.pages.assets import Assets, load_assets

STRANGER = "https://stranger.example"
FILES = {
    "loader.js": "'__PARLEY_WIDGET_HASH__';" + "loads();" * 50,
    "client.js": "import './state.js';" * 50,
    "pages/chat.html": "<!doctype html><title>Chat</title>",
    "pages/demo.html": "<!doctype html><title>Shop</title>",
}
PRODUCTION = {"PARLEY_ENVIRONMENT": "production", "PARLEY_DEMO": "1", "PARLEY_AUTH_BCRYPT_COST": "10"}


@pytest_asyncio.fixture
async def assets(tmp_path: Path) -> Assets:
    """A small widget."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return await asyncio.to_thread(load_assets, tmp_path)


@pytest_asyncio.fixture
async def pages(service: Service, assets: Assets) -> AsyncIterator[Service]:
    """A service that serves it."""
    service.parts["assets"] = assets
    yield service


async def test_a_file_may_be_kept_for_ever_and_loaded_by_anybody(pages: Service, assets: Assets) -> None:
    address = f"/widget/{assets.version}/client.js"

    answer = await pages.http.get(address, headers={"Origin": STRANGER})

    assert (answer.status_code, answer.text) == (200, FILES["client.js"])
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8", True),
        ("*", True),
        ("GZIP", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip;q=0.001", True),
        ("identity", False),
        ("x-gzipped", False),
        ("br", False),
        ("", False),
    ],
)
async def test_it_comes_packed_for_who_can_unpack_it(pages: Service, accepted: str, is_packed: bool) -> None:
    answer = await pages.http.get("/widget.js", headers={"Accept-Encoding": accepted})

    assert (answer.headers.get("content-encoding") == "gzip") is is_packed
    assert "accept-encoding" in answer.headers["vary"].lower()
    assert answer.text.endswith("loads();")
    assert (int(answer.headers["content-length"]) < len(FILES["loader.js"]) / 2) is is_packed


async def test_the_loader_names_the_version_and_is_asked_for_again(pages: Service, assets: Assets) -> None:
    first = await pages.http.get("/widget.js")
    second = await pages.http.get("/widget.js", headers={"If-None-Match": first.headers["etag"]})

    assert assets.version in first.text
    assert first.headers["cache-control"] == "public, max-age=300"
    assert (second.status_code, second.content) == (304, b"")
    assert second.headers["etag"] == first.headers["etag"]


async def test_another_version_is_found_at_the_present_one(pages: Service, assets: Assets) -> None:
    answer = await pages.http.get(f"/widget/{'0' * 16}/client.js")
    followed = await pages.http.get(f"/widget/{'0' * 16}/client.js", follow_redirects=True)

    assert answer.headers["location"] == f"/widget/{assets.version}/client.js"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert followed.text == FILES["client.js"]


@pytest.mark.parametrize(
    "path",
    [
        "{v}/pages/chat.html",
        "{v}/nothing.js",
        "{v}/",
        "{v}/../../../pyproject.toml",
        "{v}/%2e%2e/%2e%2e/settings.py",
        "{v}//etc/passwd",
        "{v}/widget.js%00",
        "short/widget.js",
        "https:%2f%2fevil.example/widget.js",
    ],
)
async def test_nothing_else_is_served(pages: Service, assets: Assets, path: str) -> None:
    assert_refused(await pages.http.get(f"/widget/{path.format(v=assets.version)}"), 404)


async def test_our_pages_run_no_script_but_ours(pages: Service) -> None:
    for path, title in (("/chat", "Chat"), ("/", "Shop")):
        answer = await pages.http.get(path)

        assert f"<title>{title}</title>" in answer.text
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-frame-options"] == "DENY"
        policy = dict(rule.strip().split(" ", 1) for rule in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert (policy["base-uri"], policy["frame-ancestors"]) == ("'none'", "'none'")


async def test_the_demo_shop_may_be_switched_off_and_is_off_in_production(start: Start) -> None:
    for variables, status in (({"PARLEY_DEMO_PAGE": "0"}, 404), (PRODUCTION, 404)):
        async with start(**variables) as service:
            assert (await service.http.get("/")).status_code == status
    async with start(**PRODUCTION, PARLEY_DEMO_PAGE="1") as service:
        assert (await service.http.get("/")).status_code == 200


async def kill(http: httpx.AsyncClient, origin: str | None = "http://127.0.0.1:8000") -> httpx.Response:
    return await http.post("/demo/kill-worker", headers={"Origin": origin} if origin is not None else {})


async def test_a_worker_is_killed_from_this_machine_in_development_only(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *call: killed.append(call))
    async with start() as service:
        for origin in (None, "null", STRANGER, "http://localhost.evil.example"):
            assert_refused(await kill(service.http, origin), 404)
        async with from_address(service.app, "192.0.2.7") as far:
            assert_refused(await kill(far), 404)
        proxied = await service.http.post("/demo/kill-worker", headers={"X-Forwarded-For": "192.0.2.7"})
        assert_refused(proxied, 404)
        assert_refused(await service.http.get("/demo/kill-worker", headers={"Origin": "http://127.0.0.1:8000"}), 405)
        assert killed == []
        await kill(service.http)
        assert killed == [(os.getpid(), signal.SIGKILL)]
    async with start(**PRODUCTION) as service:
        assert_refused(await kill(service.http), 404)
    assert len(killed) == 1
