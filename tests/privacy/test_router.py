"""Export and erasure over HTTP: for admins alone, of those who exist, noted in the trail."""

import json
import uuid
from typing import Any

import pytest
from sqlalchemy import text
from tests.attacks.claims import assert_refused
from tests.auth.sites import exchange, make_site, signed
from tests.chat.conftest import Rows, ask, make, rows
from tests.conftest import Start
from tests.fixtures.service import Account, Service

from parley.agents.privacy import shared_keys_name

__all__ = ["rows"]
QUICK = {"PARLEY_AUTH_REVOCATION_POLL_S": "0.2"}


async def export(service: Service, admin: Account, user_id: str) -> dict[str, Any]:
    answer = await service.http.get(f"/auth/users/{user_id}/export", headers=admin.headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    document: dict[str, Any] = json.loads(answer.content)
    return document


async def test_only_admins_may_and_only_of_people_who_are(service: Service, subtests: pytest.Subtests) -> None:
    ada = await service.register()
    admin = await service.with_role("admin")
    for method, path in (("GET", "/export"), ("DELETE", "")):
        for caller in (ada, await service.with_role("operator")):
            with subtests.test(method=method, role=caller.user["role"]):
                url = f"/auth/users/{ada.user['id']}{path}"
                assert_refused(await service.http.request(method, url, headers=caller.headers), 403, code="forbidden")
        unknown = await service.http.request(method, f"/auth/users/{uuid.uuid4()}{path}", headers=admin.headers)
        assert_refused(unknown, 404, code="person_not_found")
    assert (await service.http.get("/auth/me", headers=ada.headers)).status_code == 200


async def test_an_export_holds_all_that_is_theirs_and_no_secret(service: Service, rows: Rows) -> None:
    site = await make_site(service)
    named = Account.of(await exchange(service, site, signed(site, "customer-7", name="Zoe", email="zoe@site.example")))
    ada, admin = await service.register(), site["admin"]
    own = await make(service, named, title="My order")
    said = await rows.say(own["id"], "Where is it?", author_id=named.user["id"], author_name="Zoe")
    await rows.say(own["id"], "On its way.", role="assistant", question_id=said, steps=[{"calls": "inner"}])
    theirs = await make(service, ada)
    await ask(service, ada, "POST", f"/{theirs['id']}/participants", json={"user_id": named.user["id"]})
    await rows.say(theirs["id"], "I was here, too.", author_id=named.user["id"])
    await rows.say(theirs["id"], "Not yours to read.", author_id=ada.user["id"])

    document = await export(service, admin, named.user["id"])

    account = document["account"]
    assert {name: account[name] for name in ("name", "contact_email", "external_id", "site_name", "has_password")} == {
        "name": "Zoe",
        "contact_email": "zoe@site.example",
        "external_id": "customer-7",
        "site_name": "Shop",
        "has_password": False,
    }
    assert [one["title"] for one in document["conversations"]] == ["My order"]
    assert [one["content"] for one in document["messages"]] == ["Where is it?", "On its way."]
    assert [one["content"] for one in document["messages_elsewhere"]] == ["I was here, too."]
    assert [one["conversation_id"] for one in document["invitations"]] == [theirs["id"]]
    assert len(document["sessions"]) == 1
    assert {one["action"] for one in document["audit_entries"]} == {"identified", "user_exported"}
    written = json.dumps(document)
    for secret in (named.refresh_token, site["secret"], "password_hash", "token_hash", "inner", "Not yours"):
        assert secret not in written


async def test_an_erased_operator_is_out_of_what_others_said_and_of_the_trail(start: Start, rows: Rows) -> None:
    async with start(**QUICK) as service:
        ada, operator, admin = (
            await service.register(),
            await service.with_role("operator"),
            await service.with_role("admin"),
        )
        theirs = await make(service, ada, title="Ada's")
        asked = await rows.say(theirs["id"], "Anybody there?", author_id=ada.user["id"])
        await rows.say(theirs["id"], "I am.", role="operator", author_id=operator.user["id"], author_name="Olga")
        reply = await rows.say(theirs["id"], "Me too.", role="assistant", question_id=asked, status="complete")
        for rater, comment in ((operator, "good"), (ada, "bad"), (operator, "better")):
            body = {"rating": "up", "comment": comment}
            await service.http.post(f"/chat/messages/{reply}/feedback", json=body, headers=rater.headers)
        before = await rows.fetch("SELECT rev FROM conversations WHERE id = $1", theirs["id"])
        redis = service.parts["redis"]
        await redis.set(f"{shared_keys_name(uuid.UUID(operator.user['id']))}:account", b"1")

        answer = await service.http.delete(f"/auth/users/{operator.user['id']}", headers=admin.headers)
        again = await service.http.delete(f"/auth/users/{operator.user['id']}", headers=admin.headers)

        removed = answer.json()["removed"]
        assert (answer.status_code, removed["accounts"], removed["messages_elsewhere"]) == (200, 1, 2)
        assert again.json()["removed"]["accounts"] == 0
        messages = (await ask(service, ada, "GET", f"/{theirs['id']}/messages")).json()["data"]
        assert [message["content"] for message in messages] == ["Anybody there?", "[erased]", "Me too."]
        assert (messages[1]["author"], messages[2]["feedback"]) == (None, None)
        assert await rows.fetch("SELECT rev FROM conversations WHERE id = $1", theirs["id"]) > before
        assert (await service.http.get("/auth/me", headers=operator.headers)).status_code == 401
        async with service.parts["database"].transaction() as db:
            trail = (await db.execute(text("SELECT action, actor_id, subject_id FROM audit_log"))).all()
        named = [action for action, *ids in trail if uuid.UUID(operator.user["id"]) in ids]
        assert named == ["user_erased"]
        assert "message_rated" in {action for action, *_ in trail}, "that it was done stays"
        assert not [key async for key in redis.scan_iter(match=f"*{operator.user['id']}*")]
