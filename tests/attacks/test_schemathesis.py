"""The OpenAPI document against the service: as guest, user and admin nothing is a 5xx, and what is described works.

What is refused for its form is refused to everybody, so one role has the most examples; tests/soak has many for all.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.attacks.processes import in_a_thread

from parley.settings import Settings

AnyOperation: TypeAlias = APIOperation[Any, Any, Any, Any]
AnyCase: TypeAlias = Case[Any]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FOR_ADMINS = ("/agents", "/auth/sites", "/auth/users", "/auth/audit")
SHARE_THAT_WORKS = 0.8
PASSWORD = "correct horse battery"
WATCH = "GET /chat/conversations/{conversation_id}/stream"
WATCHED_S = 3.0  # it does not end by itself
PAGE = {"Origin": "http://localhost:3000"}
EXAMPLES = {"guest": 2, "user": 2, "admin": 5}
BOUNDED = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Caller:
    """Somebody with a role who signs in again whenever the session has ended."""

    def __init__(self, http: httpx.Client, database_url: str, role: str) -> None:
        self._http = http
        self._database_url = database_url
        self._role = role
        self._email = ""
        self.tokens: dict[str, Any] = {}
        self.is_doubtful = True
        """Whether the session may have ended since it was looked at."""

    def sign_in(self) -> None:
        """Become somebody whose tokens are good."""
        if self._role == "guest":
            self.tokens = self._http.post("/auth/guest", json={}, headers=PAGE).json()
            return
        if not self._email:
            self._email = f"{uuid.uuid4().hex[:12]}@shop.example"
            self._http.post("/auth/register", json={"email": self._email, "password": PASSWORD})
            asyncio.run(self._take_role())
        form = {"username": self._email, "password": PASSWORD}
        self.tokens = self._http.post("/auth/token", data=form).json()

    async def _take_role(self) -> None:
        connection = await asyncpg.connect(self._database_url)
        await connection.execute("UPDATE users SET role = $1 WHERE email = $2", self._role, self._email)
        await connection.close()

    @property
    def headers(self) -> dict[str, str]:
        if self.is_doubtful:
            me = self._http.get("/auth/me", headers={"Authorization": f"Bearer {self.tokens.get('access_token')}"})
            if me.status_code != 200:
                self.sign_in()
            self.is_doubtful = False
        return {"Authorization": f"Bearer {self.tokens['access_token']}", **PAGE}

    def good_body(self, operation: AnyOperation) -> Any:
        """Return a body that this operation takes from this caller; None where the document's own examples do."""
        email = f"{uuid.uuid4().hex[:12]}@shop.example"
        bodies: dict[str, Any] = {
            "POST /auth/register": {"email": email, "password": PASSWORD, "name": "Ada"},
            "POST /auth/token": {"username": self._email or email, "password": PASSWORD},
            "POST /auth/refresh": {"refresh_token": self.tokens["refresh_token"]},
            "POST /auth/password": {"current_password": PASSWORD, "new_password": PASSWORD},
            "POST /auth/sites": {"name": "Shop", "origins": [PAGE["Origin"]]},
            "PATCH /auth/sites/{site_id}": {"name": "Store"},
            "PUT /agents/{name}": {"prompt": "Answer in one sentence."},
            "PATCH /chat/conversations/{conversation_id}": {"title": "Order 4711"},
            "POST /chat/messages/{message_id}/feedback": {"rating": "up"},
        }
        if operation.label == "POST /chat/conversations/{conversation_id}/participants":
            return {"user_id": self._http.post("/auth/guest", json={}, headers=PAGE).json()["user"]["id"]}
        return bodies.get(operation.label)

    def good_path(self, operation: AnyOperation) -> dict[str, str]:
        """Return what the address of this operation names, made for it."""
        path = {"name": "support"} if "{name}" in operation.label else {}
        if "/chat/" in operation.label and "{" in operation.label:
            headers = self.headers
            made = self._http.post("/chat/conversations", json={}, headers=headers).json()
            path["conversation_id"] = made["id"]
        if "{site_id}" in operation.label:
            site = {"name": "Shop", "origins": []}
            made = self._http.post("/auth/sites", json=site, headers=self.headers).json()
            path["site_id"] = made.get("id", str(uuid.uuid4()))  # only admins make one
        if "{user_id}" in operation.label:
            path["user_id"] = self._http.post("/auth/guest", json={}, headers=PAGE).json()["user"]["id"]
        if "/participants/" in operation.label:
            people = f"/chat/conversations/{made['id']}/participants"
            self._http.post(people, json={"user_id": path["user_id"]}, headers=headers)
        if "{message_id}" in operation.label:
            path["message_id"] = asyncio.run(self._answer(made["id"]))
        return {name: value for name, value in path.items() if f"{{{name}}}" in operation.label}

    async def _answer(self, conversation_id: str) -> str:
        """Put a question and its answer into a conversation."""
        question, reply = uuid.uuid4(), uuid.uuid4()
        connection = await asyncpg.connect(self._database_url)
        query = """INSERT INTO messages (id, conversation_id, question_id, role, seq, rev, content)
                   SELECT m.id, c.id, m.question, m.role, m.seq, m.seq, 'Hello' FROM conversations c,
                   (VALUES ($2::uuid, NULL::uuid, 'user', 1), ($3, $2, 'assistant', 2)) AS m (id, question, role, seq)
                   WHERE c.id = $1"""
        await connection.execute(query, conversation_id, question, reply)
        await connection.execute("UPDATE conversations SET rev = 2, last_seq = 2 WHERE id = $1", conversation_id)
        await connection.close()
        return str(reply)


# Sent with a token of somebody who is registered, this one is refused by design.
WITHOUT_TOKEN = {"POST /auth/register"}


def good_cases(operation: AnyOperation, caller: Caller) -> list[AnyCase]:
    body = caller.good_body(operation)
    path: dict[str, Any] = {"path_parameters": caller.good_path(operation)}
    if body is not None:
        return [operation.Case(body=body, **path)]
    if not operation.body:
        return [operation.Case(**path)]
    examples: list[AnyCase] = []

    for strategy in operation.get_strategies_from_examples():

        @settings(BOUNDED, max_examples=1)  # it has no other
        @given(strategy)
        def take(case: AnyCase) -> None:
            examples.append(case)

        take()
    return examples or [operation.Case(body={})]


def drive(operation: AnyOperation, address: str, caller: Caller, wire: requests.Session, examples: int) -> Counter[int]:
    """Ask one operation what fits its description and what does not; return how often it answered what."""
    statuses: Counter[int] = Counter()

    def ask(case: AnyCase) -> None:
        headers = PAGE if operation.label in WITHOUT_TOKEN else caller.headers
        timeout_s = WATCHED_S if operation.label == WATCH else None
        answer = case.call(base_url=address, session=wire, headers=headers, timeout=timeout_s)
        statuses[answer.status_code] += 1
        caller.is_doubtful = answer.status_code == 401 or "/auth/" in operation.label
        case.validate_response(answer, checks=CHECKS, headers=headers)

    for case in good_cases(operation, caller):
        ask(case)
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
            continue
        settings(BOUNDED, max_examples=examples)(given(operation.as_strategy(generation_mode=mode))(ask))()
    return statuses


# The service runs in a thread of this process and rolls dice of its own, which hypothesis takes for a strategy's.
without_dice = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")


@without_dice
@pytest.mark.parametrize("role", list(EXAMPLES))
def test_what_the_document_describes_is_what_the_service_does(
    settings_with: Callable[..., Settings], database_url: str, role: str
) -> None:
    # A busy machine is no fault of the service's: it would refuse new questions with 503.
    check_the_document(settings_with(PARLEY_CHAT_LOOP_LAG_S="30"), database_url, role, EXAMPLES[role])


def check_the_document(service: Settings, database_url: str, role: str, examples: int) -> None:
    """Ask every operation as somebody of this role, with so many cases that fit and as many that do not."""
    with (
        in_a_thread(service) as address,
        httpx.Client(base_url=address) as http,
        requests.Session() as wire,
    ):
        caller = Caller(http, database_url, role)
        caller.sign_in()
        document = schemathesis.openapi.from_dict(http.get("/openapi.json").json())
        operations = [found.ok() for found in document.get_all_operations() if isinstance(found, Ok)]
        statuses = {operation.label: drive(operation, address, caller, wire, examples) for operation in operations}

    for label, counted in statuses.items():
        print(f"{role:6} {label:32} {dict(counted)}")
    assert len(operations) >= 12
    assert not [label for label, counted in statuses.items() if any(status >= 500 for status in counted)]
    # What a role may not do by design is refused, and is not counted against what works.
    for_admins = [label for label in statuses if any(part in label for part in FOR_ADMINS)]
    allowed = [label for label in statuses if role == "admin" or label not in for_admins]
    working = [label for label, counted in statuses.items() if any(200 <= status < 300 for status in counted)]
    print(f"{role}: {len(working)} of {len(allowed)} operations answered 2xx")
    assert len(working) >= SHARE_THAT_WORKS * len(allowed), sorted(set(allowed) - set(working))
