"""Canaries (RELIABILITY 5: 35) in all that people send and settings hold: looked for in every sink of real processes.

The sinks are the log, the spans as a collector gets them, the metrics and what errors answer.
"""

import json
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from tests.attacks.processes import served
from tests.fixtures.collector import Collector, collecting
from tests.fixtures.service import SECRET
from tests.story.chatting import Provider
from tests.story.serving import Serving, wait_until

PASSWORD = "Canary-password-5d1c"
PROMPT = "Canary-question about a jacket"
WORDS = "canary-words"
DSN_PASSWORD = "canary-dsn-password"
KEYS = {
    "OPENAI_API_KEY": "sk-canary-openai-key-0123456789",
    "PARLEY_OPS_TOKEN": "canary-ops-token-0123456789",
    "PARLEY_OTLP_HEADERS": "api-key=canary-collector-key",
}
ORIGIN = {"Origin": "http://localhost:3000"}


def with_password(url: str) -> str:
    """Return the address of the same database with a password, which this one does not ask for."""
    user, _, place = url.partition("@")
    return f"{user}:{DSN_PASSWORD}@{place}"


class Life:
    """What somebody does with the service, and every secret of it."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.email = f"canary-{uuid.uuid4().hex[:8]}@shop.example"
        self.secrets = [
            PASSWORD,
            PROMPT,
            WORDS,
            DSN_PASSWORD,
            self.email,
            SECRET,
            *KEYS.values(),
            "canary-collector-key",
        ]
        self.refusals: list[httpx.Response] = []

    def live(self) -> str:
        """Sign in, ask, watch, search, and be refused in every way; return the answer."""
        made = self.http.post("/auth/register", json={"email": self.email, "password": PASSWORD}).json()
        bearer = {"Authorization": f"Bearer {made['access_token']}"}
        ticket = self.http.post("/auth/ticket", json={}, headers=bearer).json()["ticket"]
        self.secrets += [made["access_token"], made["refresh_token"], ticket]
        body = {"message": PROMPT, "client_id": "c-1"}
        streamed = self.http.post("/chat/stream", json=body, headers=bearer)
        events = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: {")]
        answer = "".join(event["content"] for event in events if event["type"] == "token")
        conversation = next(event["conversation"]["id"] for event in events if event["type"] == "ready")
        in_query = {"q": WORDS, "ticket": ticket, "token": made["refresh_token"], "access_token": made["access_token"]}
        self.http.get("/chat/conversations", params=in_query, headers=bearer)
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", **ORIGIN}
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        self.refusals += [
            self.http.get(
                f"/chat/ws/{conversation}", params={"ticket": ticket[:-2] + "xx"}, headers={**upgrade, **key}
            ),
            self.http.post("/auth/token", data={"username": self.email, "password": PASSWORD + "!"}),
            self.http.post("/auth/register", json={"email": self.email, "password": PASSWORD}),
            self.http.get("/auth/me", params=in_query, headers={"Authorization": f"Bearer {made['access_token']}x"}),
            self.http.get(f"/{ticket}", params=in_query),
            self.http.post(
                "/chat/send", json={"message": PROMPT, "conversation_id": str(uuid.uuid4())}, headers=bearer
            ),
            self.http.post("/chat/send", json={"message": PROMPT, PASSWORD: 1}, headers=bearer),
            self.http.post("/chat/stream", json={**body, "message": f"{PROMPT}?"}, headers=bearer),
        ]
        return answer

    def pieces(self) -> list[str]:
        """Return what would give a secret away: all of it, its signature, or its last part."""
        every = [piece for secret in self.secrets for piece in (secret, secret.rpartition(".")[2], secret[-24:])]
        return [piece for piece in every if len(piece) > 10 and not piece.endswith("shop.example")] + [self.email]


async def break_messages(database_url: str) -> None:
    """Make PostgreSQL refuse the question: it quotes the row it refuses."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "ALTER TABLE messages ADD CONSTRAINT no_canaries CHECK (content NOT LIKE 'Canary-%') NOT VALID"
    )
    await connection.execute("ALTER TABLE users ADD CONSTRAINT no_canaries CHECK (email NOT LIKE 'canary%') NOT VALID")
    await connection.close()


def ask_what_breaks(life: Life) -> None:
    guest = life.http.post("/auth/guest", json={}, headers=ORIGIN).json()
    bearer = {"Authorization": f"Bearer {guest['access_token']}"}
    other = f"canary-{uuid.uuid4().hex[:8]}@shop.example"
    life.secrets.append(other)
    broken = [
        life.http.post("/chat/send", json={"message": PROMPT, "client_id": "c-2"}, headers=bearer),
        life.http.post("/auth/register", json={"email": other, "password": PASSWORD}),
    ]
    assert [answer.status_code for answer in broken] == [500, 500]
    life.refusals += broken


@pytest.mark.usefixtures("at_leisure")
async def test_no_canary_reaches_a_sink(database_url: str, redis_url: str, tmp_path: Path) -> None:
    provider = Provider()
    environ: dict[str, Any] = {
        "PARLEY_LOG_FORMAT": "json",
        "PARLEY_LOG_LEVEL": "debug",
        "PARLEY_LOG_NOISE": "1",
        **KEYS,
    }
    try:
        with (
            collecting() as collector,
            served(
                tmp_path,
                with_password(database_url),
                redis_url,
                OPENAI_BASE_URL=provider.url,
                PARLEY_OTLP_ENDPOINT=collector.url,
                **environ,
            ) as serving,
            httpx.Client(base_url=serving.address, timeout=30, headers={"User-Agent": "canary-agent"}) as http,
        ):
            life = Life(http)
            answer = life.live()
            assert len(answer) > 40
            await break_messages(database_url)
            ask_what_breaks(life)
            metrics = http.get("/metrics", headers={"Authorization": f"Bearer {KEYS['PARLEY_OPS_TOKEN']}"}).text
            wait_until(lambda: bool(collector.named("invoke_agent support")))
    finally:
        provider.end()
    check(life, serving, collector, metrics, answer)


def check(life: Life, serving: Serving, collector: Collector, metrics: str, answer: str) -> None:
    written = serving.out + serving.err
    for proof, sink in (("reply_ended", written), ("request_failed", written), ("http_requests_total", metrics)):
        assert proof in sink
    assert all(refusal.status_code >= 400 for refusal in life.refusals)
    assert {"POST /chat/stream", "POST /auth/register"} <= {span.name for span in collector.spans}
    errors = "".join(refusal.text + str(refusal.headers) for refusal in life.refusals)
    sinks = {"log": written, "spans": collector.raw.decode(errors="replace"), "metrics": metrics, "errors": errors}
    said = [answer[start : start + 24] for start in range(0, len(answer) - 24, 24)]
    for canary in [*life.pieces(), *said]:
        assert [name for name, text in sinks.items() if canary in text] == [], canary
    assert "canary-agent" not in sinks["spans"]
