"""Secrets (RELIABILITY 5: 35): canaries are looked for in all that a real process writes, answers and documents."""

import asyncio
import json
import uuid
from pathlib import Path

import asyncpg
import httpx
import pytest
from tests.attacks.claims import assert_refused
from tests.attacks.processes import served
from tests.conftest import Start
from tests.fixtures.service import SECRET

PASSWORD = "Canary-password-5d1c"
SECOND_PASSWORD = "Canary-password-77ab"
KEYS = {
    "PARLEY_AUTH_SECRETS": f"{SECRET},canary-signing-key-0123456789-abcdefghijkl",
    "PARLEY_OPS_TOKEN": "canary-ops-token-0123456789",
    "OPENAI_API_KEY": "sk-canary-openai-key-0123456789",
    "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
    "PARLEY_LOG_LEVEL": "debug",
}
ORIGIN = {"Origin": "http://localhost:3000"}


def live_through_everything(http: httpx.Client) -> tuple[list[str], list[httpx.Response]]:
    """Do what people and attackers do; return every secret that was handed out or sent, and the refusals."""
    email = f"{uuid.uuid4().hex[:8]}@shop.example"
    made = http.post("/auth/register", json={"email": email, "password": PASSWORD}).json()
    secrets, refusals = [PASSWORD, SECOND_PASSWORD, made["access_token"], made["refresh_token"]], []
    bearer = {"Authorization": f"Bearer {made['access_token']}"}
    renewed = http.post("/auth/refresh", json={"refresh_token": made["refresh_token"]}).json()
    guest = http.post("/auth/guest", json={}, headers=ORIGIN).json()
    ticket = http.post("/auth/ticket", json={}, headers=bearer).json()["ticket"]
    secrets += [
        renewed["access_token"],
        renewed["refresh_token"],
        guest["access_token"],
        guest["refresh_token"],
        ticket,
    ]
    in_query = {"ticket": ticket, "access_token": made["access_token"], "token": made["refresh_token"]}
    ops = {"Authorization": f"Bearer {KEYS['PARLEY_OPS_TOKEN']}", "X-Forwarded-For": "203.0.113.9"}
    refusals += [
        http.post("/auth/token", data={"username": email, "password": SECOND_PASSWORD}),
        http.post("/auth/token", data={"username": PASSWORD, "password": made["access_token"][:256]}),
        http.post(
            "/auth/register", json={"email": PASSWORD, "password": [PASSWORD], "name": made["refresh_token"] * 3}
        ),
        http.post("/auth/register", content=f'{{"password": "{PASSWORD}", oops'.encode()),
        http.post("/auth/refresh", json={"refresh_token": made["refresh_token"]}),
        http.post("/auth/refresh", json={"refresh_token": ticket[:256]}),
        http.get("/auth/me", params=in_query),
        http.get("/auth/me", headers={"Authorization": f"Bearer {made['access_token']}x"}),
        http.get(f"/{made['access_token']}"),
        http.get(f"/auth/{made['refresh_token']}", params=in_query),
        http.get(f"/auth/tickets/{ticket}"),
        http.post(
            "/auth/password",
            json={"current_password": SECOND_PASSWORD, "new_password": PASSWORD + "!"},
            headers=bearer,
        ),
    ]
    http.get("/health", headers=ops)
    body = {"current_password": PASSWORD, "new_password": SECOND_PASSWORD}
    changed = http.post("/auth/password", json=body, headers=bearer).json()
    secrets += [changed["access_token"], changed["refresh_token"]]
    return secrets, refusals


def pieces(secrets: list[str]) -> list[str]:
    """Return what would give a secret away: all of it, its signature, or its last part."""
    return [
        piece for secret in secrets for piece in (secret, secret.rpartition(".")[2], secret[-24:]) if len(piece) > 15
    ]


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_no_secret_is_written_answered_or_documented(
    database_url: str, redis_url: str, tmp_path: Path, form: str
) -> None:
    with served(tmp_path, database_url, redis_url, PARLEY_LOG_FORMAT=form, **KEYS) as serving:
        with httpx.Client(base_url=serving.address) as http:
            secrets, refusals = live_through_everything(http)
            document = http.get("/openapi.json").text
            health = http.get("/health").text
        websocket_upgrade(serving.port, secrets[8])

    for answer in refusals:
        assert answer.status_code >= 400, answer.text
    written = serving.out + serving.err
    assert "request_served" in written
    keys = [*KEYS["PARLEY_AUTH_SECRETS"].split(","), KEYS["PARLEY_OPS_TOKEN"], KEYS["OPENAI_API_KEY"]]
    for canary in [*pieces(secrets), *keys]:
        assert canary not in written, f"{canary} in the log"
        assert canary not in document
        assert canary not in health
        assert not [answer.url for answer in refusals if canary in answer.text + str(answer.headers)]


def websocket_upgrade(port: int, ticket: str) -> None:
    """Knock as a browser does, with the ticket in the address."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for query in (
        f"ticket={ticket}",
        f"%74icket={ticket}",
        f"a=b&Ticket={ticket}",
        f"t={ticket[-40:]}&ticket={ticket}",
    ):
        httpx.get(f"http://127.0.0.1:{port}/chat/ws/1?{query}", headers=headers)


def test_what_breaks_on_our_side_is_logged_without_the_password_that_broke_it(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """A traceback shows the local variables of every frame if it is let."""
    with (
        served(tmp_path, database_url, redis_url, PARLEY_LOG_FORMAT="json") as serving,
        httpx.Client(base_url=serving.address) as http,
    ):
        made = http.post("/auth/register", json={"email": "ada@shop.example", "password": PASSWORD}).json()
        break_accounts(database_url)
        for answer in (
            http.post("/auth/token", data={"username": "ada@shop.example", "password": PASSWORD}),
            http.post("/auth/register", json={"email": "bob@shop.example", "password": PASSWORD}),
            http.post("/auth/refresh", json={"refresh_token": made["refresh_token"]}),
        ):
            assert_refused(answer, 500, code="internal_error")

    written = serving.out + serving.err
    assert written.count("request_failed") == 3
    for line in written.splitlines():
        if line.startswith("{"):
            json.loads(line)
    for canary in (PASSWORD, made["refresh_token"], made["access_token"], SECRET, "$2b$"):
        assert canary not in written, f"{canary} stands in the log"


def break_accounts(database_url: str) -> None:
    async def rename() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute("ALTER TABLE audit_log RENAME TO audit_gone")
        await connection.execute("ALTER TABLE refresh_tokens RENAME TO refresh_gone")
        await connection.close()

    asyncio.run(rename())


async def test_in_production_there_are_no_docs(start: Start) -> None:
    production = {"PARLEY_ENVIRONMENT": "production", "PARLEY_DEMO": "1", "PARLEY_AUTH_BCRYPT_COST": "10"}
    async with start(**production) as service:
        for path in ("/docs", "/redoc", "/openapi.json", "/docs/assets/swagger-ui.css", "/docs/oauth2-redirect"):
            assert_refused(await service.http.get(path), 404, code="not_found")
    async with start(**production, PARLEY_DOCS="1") as service:
        assert (await service.http.get("/openapi.json")).status_code == 200


async def test_settings_do_not_show_their_secrets(start: Start) -> None:
    async with start(PARLEY_OPS_TOKEN="canary-ops-token", OPENAI_API_KEY="") as service:
        shown = repr(service.parts["settings"])

    assert SECRET not in shown
    assert "canary-ops-token" not in shown
