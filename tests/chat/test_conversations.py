"""Conversations over HTTP against the real database: made, listed, found, changed, shared, rated, deleted."""

import asyncio
import hashlib
import json
import uuid
from typing import Any

import pytest
from tests.attacks.claims import assert_refused
from tests.chat.conftest import CONVERSATIONS, Rows, ask, make, titles
from tests.fixtures.service import Service

from parley.chat.service import Committed

LIVE = ("queued", "streaming", "stopping")


async def test_a_new_conversation_is_what_was_asked_for(service: Service) -> None:
    ada = await service.register()

    made = await make(service, ada, title="  Order 4711 ", agent="sales")

    assert (made["title"], made["agent"], made["mode"], made["archived"]) == ("Order 4711", "sales", "ai", False)
    assert (made["owner_id"], made["rev"], made["completed_at"]) == (ada.user["id"], 0, None)
    assert (await ask(service, ada, "GET", f"/{made['id']}")).json() == made


async def test_a_client_id_makes_one_conversation(service: Service, rows: Rows) -> None:
    """However often and however much at once it comes, and whatever the conversation is called by then."""
    ada, eve = await service.register(), await service.register()
    body = {"client_id": "c-1", "title": "First"}

    answers = await asyncio.gather(*(ask(service, ada, "POST", "", json=body) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    await ask(service, ada, "PATCH", f"/{answers[0].json()['id']}", json={"title": "Renamed"})
    again = await ask(service, ada, "POST", "", json=body)
    assert (again.status_code, again.json()["title"]) == (200, "Renamed")
    for other in ({"title": "Second"}, {"title": "First", "agent": "sales"}, {}):
        refused = await ask(service, ada, "POST", "", json={"client_id": "c-1", **other})
        assert_refused(refused, 422, code="client_id_reused")
        assert refused.json()["error"]["param"] == "client_id"
    assert (await ask(service, eve, "POST", "", json=body)).status_code == 201
    assert await rows.fetch("SELECT count(*) FROM conversations") == 2


async def test_a_deleted_conversation_does_not_come_back_by_its_client_id(service: Service) -> None:
    ada = await service.register()
    made = await make(service, ada, client_id="c-1")
    await ask(service, ada, "DELETE", f"/{made['id']}")

    assert_refused(await ask(service, ada, "POST", "", json={"client_id": "c-1"}), 422, code="client_id_reused")


@pytest.mark.parametrize(
    "body",
    [
        {"title": "two\nlines"},
        {"title": "x" * 201},
        {"title": "\ufb2c" * 120},
        {"title": None},
        {"agent": "No Such Name"},
        {"client_id": ""},
        {"client_id": "x" * 65},
        {"client_id": "a b"},
        {"client_id": "a\n"},
        {"mode": "human"},
    ],
)
async def test_what_no_conversation_can_be_is_refused(service: Service, body: dict[str, Any]) -> None:
    ada = await service.register()

    assert_refused(await ask(service, ada, "POST", "", json=body), 422, code="validation_error")


async def test_the_list_is_newest_activity_first(service: Service, rows: Rows) -> None:
    ada, operator = await service.register(), await service.with_role("operator")
    first, _, third = [await make(service, ada, title=title) for title in ("a", "b", "c")]
    await rows.say(first["id"])
    await ask(service, ada, "PATCH", f"/{third['id']}", json={"mode": "human"})

    assert await titles(service, ada) == ["a", "c", "b"]
    assert await titles(service, operator) == ["a", "c", "b"]
    assert await titles(service, ada, mode="human") == ["c"]
    assert await titles(service, ada, mode="ai") == ["a", "b"]


async def test_the_list_is_read_in_both_directions(service: Service) -> None:
    ada, eve = await service.register(), await service.register()
    for number in range(7):
        made = await make(service, ada if number % 2 else eve, title=str(number))
        if number % 2 == 0:
            body = {"user_id": ada.user["id"]}
            assert (await ask(service, eve, "POST", f"/{made['id']}/participants", json=body)).status_code == 201

    pages: list[dict[str, Any]] = []
    seen = None
    while not pages or pages[-1]["has_more"]:
        query = {"limit": 3} | ({"after": seen} if seen else {})
        pages.append((await ask(service, ada, "GET", "", params=query)).json())
        seen = pages[-1]["last_id"]
    back = (await ask(service, ada, "GET", "", params={"limit": 3, "before": pages[2]["first_id"]})).json()

    assert [[one["title"] for one in page["data"]] for page in pages] == [["6", "5", "4"], ["3", "2", "1"], ["0"]]
    assert back == {**pages[1], "has_more": True}
    assert (pages[0]["object"], pages[0]["first_id"]) == ("list", pages[0]["data"][0]["id"])


async def test_the_archive_is_a_list_of_its_own(service: Service) -> None:
    ada = await service.register()
    kept, put_away = await make(service, ada, title="kept"), await make(service, ada, title="put away")

    answer = await ask(service, ada, "PATCH", f"/{put_away['id']}", json={"archived": True})

    assert (answer.json()["archived"], answer.json()["rev"]) == (True, 1)
    assert await titles(service, ada) == [kept["title"]]
    assert await titles(service, ada, archived="true") == ["put away"]
    await ask(service, ada, "PATCH", f"/{put_away['id']}", json={"archived": False})
    assert await titles(service, ada) == ["put away", "kept"]


FOUND = {
    "refund": ["spoken"],
    "REF": ["spoken"],
    "refund parcel": ["spoken"],
    "Order 47": ["Order 4711"],
    "ada@shop.example": ["spoken"],
    "退款": ["spoken"],
    "款退": [],
    "สินค้า": ["spoken"],
    "über": ["spoken"],
    "ÜBER": ["spoken"],
    "efund": [],
    "refund order": [],
    "secret": [],
}


async def test_words_are_found_in_titles_and_messages(service: Service, rows: Rows, subtests: pytest.Subtests) -> None:
    """And only in what the caller may open: for operators by the index, for others among their own."""
    ada, eve, operator = await service.register(), await service.register(), await service.with_role("operator")
    spoken, _, gone = [await make(service, ada, title=title) for title in ("spoken", "Order 4711", "secret")]
    await rows.say(
        spoken["id"], "I want a refund for my parcel. Mail me: ada@shop.example. 我想要退款谢谢 สั่งสินค้าแล้ว Über"
    )
    await rows.say(gone["id"], "secret")
    await ask(service, ada, "DELETE", f"/{gone['id']}")
    await make(service, eve, title="unrelated refunds")
    for words, expected in FOUND.items():
        with subtests.test(words):
            assert await titles(service, ada, q=words) == expected
            everywhere = set(await titles(service, operator, q=words)) - {"unrelated refunds"}
            assert everywhere == set(expected)
    assert await titles(service, ada, q="  ") == ["spoken", "Order 4711"]


async def test_many_hits_are_walked_through(service: Service, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = await service.with_role("operator")
    for number in range(4):
        await rows.say(
            (await make(service, operator, title=str(number)))["id"], "a refund" if number % 2 else "nothing"
        )
    monkeypatch.setattr("parley.chat.conversation_queries.FEW_HITS", 1)

    assert await titles(service, operator, q="refund", limit=1) == ["3"]
    assert await titles(service, operator, q="refund") == ["3", "1"]


async def test_each_real_change_takes_a_rev_and_is_told(service: Service, committed: list[Committed]) -> None:
    ada = await service.register()
    made = await make(service, ada, title="a")
    for body, rev in (
        ({"title": "b"}, 1),
        ({"title": "b"}, 1),
        ({}, 1),
        ({"archived": False, "mode": "ai"}, 1),
        ({"archived": True, "title": "c"}, 2),
        ({"mode": "human"}, 3),
    ):
        answer = await ask(service, ada, "PATCH", f"/{made['id']}", json=body)
        assert (answer.status_code, answer.json()["rev"]) == (200, rev), body
    told = [json.loads(change.body) for after in committed for change in after.changes]

    assert [(one["rev"], one["title"], one["archived"], one["mode"]) for one in told] == [
        (1, "b", False, "ai"),
        (2, "c", True, "ai"),
        (3, "c", True, "human"),
    ]
    assert_refused(await ask(service, ada, "PATCH", f"/{made['id']}", json={"mode": None}), 422)
    assert_refused(await ask(service, ada, "PATCH", f"/{made['id']}", json={"mode": "off"}), 422)


async def test_a_person_takes_over_and_nothing_more_is_written(
    service: Service, rows: Rows, committed: list[Committed]
) -> None:
    ada, operator = await service.register(), await service.with_role("operator")
    made = await make(service, ada)
    owner = uuid.uuid4()
    running = await rows.say(made["id"], "", role="assistant", status="streaming", owner=owner, attempt=1)
    waiting = await rows.say(made["id"], "", role="assistant", status="queued")

    answer = await ask(service, operator, "PATCH", f"/{made['id']}", json={"mode": "human"})

    assert (answer.status_code, answer.json()["mode"], answer.json()["rev"]) == (200, "human", 4)
    assert await rows.fetch("SELECT status FROM messages WHERE id = $1", running) == "stopping"
    assert await rows.fetch("SELECT status FROM messages WHERE id = $1", waiting) == "stopped"
    [after] = committed
    assert [(change.rev, change.message_id and str(change.message_id)) for change in after.changes] == [
        (3, None),
        (4, waiting),
    ]
    assert [(str(stop.message_id), stop.owner) for stop in after.stops] == [(running, owner)]


async def test_a_conversation_is_completed_once(service: Service, committed: list[Committed]) -> None:
    ada = await service.register()
    made = await make(service, ada)

    first, second = [await ask(service, ada, "POST", f"/{made['id']}/complete") for _ in range(2)]

    assert first.json() == second.json()
    assert (first.json()["rev"], first.json()["completed_at"] is not None) == (1, True)
    assert [len(after.changes) for after in committed] == [1, 0]


async def test_of_a_deleted_conversation_nothing_stays_but_that_it_was(
    service: Service, rows: Rows, committed: list[Committed]
) -> None:
    ada, eve, operator = await service.register(), await service.register(), await service.with_role("operator")
    made = await make(service, ada, title="canary title")
    path, owner = f"/{made['id']}", uuid.uuid4()
    await ask(service, ada, "POST", f"{path}/participants", json={"user_id": eve.user["id"]})
    await rows.say(made["id"], "canary question", author_name="canary name")
    ended: dict[str, Any] = {
        "role": "assistant",
        "status": "complete",
        "rating": "up",
        "rating_comment": "canary comment",
    }
    traces: dict[str, Any] = {
        "steps": [{"a": "canary"}],
        "shown_steps": [{"a": "canary"}],
        "sources": [{"a": "canary"}],
    }
    rated = await rows.say(made["id"], "canary answer", **ended, **traces, error_message="canary error")
    running = await rows.say(made["id"], "", role="assistant", status="streaming", owner=owner, attempt=1)
    await rows.connection.execute(
        "INSERT INTO conversation_summaries (conversation_id, through_seq, content) VALUES ($1, 1, 'canary')",
        made["id"],
    )

    answer = await ask(service, ada, "DELETE", path)

    assert answer.status_code == 204
    for caller in (ada, eve, operator):
        for method, below, body in (
            ("GET", "", None),
            ("PATCH", "", {"title": "x"}),
            ("DELETE", "", None),
            ("POST", "/complete", None),
            ("GET", "/messages", None),
            ("GET", "/participants", None),
        ):
            refused = await ask(service, caller, method, path + below, json=body)
            assert_refused(refused, 404, code="conversation_not_found")
        feedback = await service.http.post(
            f"/chat/messages/{rated}/feedback", json={"rating": "up"}, headers=caller.headers
        )
        assert_refused(feedback, 404, code="message_not_found")
        assert await titles(service, caller) == []
    for name in ("conversations", "messages", "participants", "conversation_summaries"):
        stored = await rows.fetch(f"SELECT coalesce(string_agg(t::text, ' '), '') FROM {name} t")
        assert "canary" not in stored, name
    state = await rows.connection.fetchrow("SELECT status, owner FROM messages WHERE id = $1", running)
    assert tuple(state) == ("stopped", None)
    assert [(str(stop.message_id), stop.owner) for stop in committed[-1].stops] == [(running, owner)]


async def test_messages_are_read_from_the_newest_back(service: Service, rows: Rows) -> None:
    ada = await service.register()
    made = await make(service, ada)
    ids = [await rows.say(made["id"], str(number)) for number in range(7)]

    async def page(**query: Any) -> tuple[str, bool]:
        answer = await ask(service, ada, "GET", f"/{made['id']}/messages", params={"limit": 3, **query})
        body = answer.json()
        assert (body["first_id"], body["last_id"]) == (
            (body["data"][0]["id"], body["data"][-1]["id"]) if body["data"] else (None, None)
        )
        return "".join(message["content"] for message in body["data"]), body["has_more"]

    assert await page() == ("456", True)
    assert await page(before=ids[4]) == ("123", True)
    assert await page(before=ids[1]) == ("0", False)
    assert await page(after=ids[1]) == ("234", True)
    assert await page(after=ids[4]) == ("56", False)
    assert await page(after=ids[6]) == ("", False)
    assert await page(limit=100) == ("0123456", False)


async def test_a_reply_being_written_shows_no_text(service: Service, rows: Rows) -> None:
    ada = await service.register()
    made = await make(service, ada)
    await rows.say(made["id"], "half an ans", role="assistant", status="streaming", steps=[{"a": 1}])

    [message] = (await ask(service, ada, "GET", f"/{made['id']}/messages")).json()["data"]

    assert (message["content"], message["steps"], message["status"]) == ("", [], "streaming")


async def rate(service: Service, account: Any, message_id: str, **body: Any) -> Any:
    return await service.http.post(f"/chat/messages/{message_id}/feedback", json=body, headers=account.headers)


async def test_feedback_is_kept_with_the_reply_and_told(
    service: Service, rows: Rows, committed: list[Committed]
) -> None:
    ada = await service.register()
    made = await make(service, ada)
    sha256 = hashlib.sha256(b"Yes.").digest()
    reply = await rows.say(made["id"], "Yes.", role="assistant", status="complete", attempt=1, tape_end=4)
    await rows.connection.execute(
        "UPDATE messages SET ended_rev = rev, content_length = 4, content_sha256 = $1", sha256
    )

    first = await rate(service, ada, reply, rating="down", comment="too short")
    again = await rate(service, ada, reply, rating="down", comment="too short")
    taken_back = await rate(service, ada, reply, rating=None)

    assert (first.status_code, first.json()["rev"]) == (200, 2)
    assert first.json()["feedback"] == {"rating": "down", "comment": "too short"}
    assert again.json() == first.json()
    assert (taken_back.json()["rev"], taken_back.json()["feedback"]) == (3, None)
    changes = [change for after in committed for change in after.changes]
    assert [change.rev for change in changes] == [2, 3]
    assert json.loads(changes[0].body)["message"] == first.json()
    assert changes[0].ending is not None
    assert changes[0].ending.rev == 1
    assert await rows.fetch("SELECT rev FROM conversations") == 3


async def test_feedback_is_for_replies_that_have_ended(service: Service, rows: Rows) -> None:
    ada = await service.register()
    made = await make(service, ada)
    for status in LIVE:
        live = await rows.say(made["id"], "", role="assistant", status=status)
        assert_refused(await rate(service, ada, live, rating="up"), 409, code="not_ended")
        await rows.connection.execute("UPDATE messages SET status = 'failed'")
        assert (await rate(service, ada, live, rating="up")).status_code == 200
    for role in ("user", "operator", "notice"):
        said = await rows.say(made["id"], role=role)
        assert_refused(await rate(service, ada, said, rating="up"), 422, code="not_a_reply")
    for body in ({}, {"rating": "best"}, {"rating": 1}, {"rating": "up", "comment": "x" * 2001}):
        assert_refused(await rate(service, ada, live, **body), 422, code="validation_error")
    assert_refused(await rate(service, ada, live, rating=None, comment="x"), 422, code="invalid_value")
    assert_refused(await rate(service, ada, str(uuid.uuid4()), rating="up"), 404, code="message_not_found")


async def test_who_is_invited_reads_along_and_may_leave(service: Service) -> None:
    ada, bob, eve = [await service.register() for _ in range(3)]
    made = await make(service, ada, title="shared")
    people = f"/{made['id']}/participants"

    new = await ask(service, ada, "POST", people, json={"user_id": bob.user["id"]})
    again = await ask(service, ada, "POST", people, json={"user_id": bob.user["id"]})

    assert (new.status_code, again.status_code) == (201, 200)
    assert new.json() == again.json()
    assert (new.json()["user_id"], new.json()["invited_by"]) == (bob.user["id"], ada.user["id"])
    assert (await ask(service, bob, "GET", people)).json()["data"] == [new.json()]
    assert await titles(service, bob) == ["shared"]
    assert (await ask(service, bob, "PATCH", f"/{made['id']}", json={"mode": "human"})).status_code == 200
    for method, path, body in (
        ("POST", people, {"user_id": eve.user["id"]}),
        ("DELETE", f"{people}/{eve.user['id']}", None),
        ("DELETE", f"{people}/{ada.user['id']}", None),
        ("PATCH", f"/{made['id']}", {"title": "mine"}),
        ("PATCH", f"/{made['id']}", {"archived": True}),
        ("DELETE", f"/{made['id']}", None),
    ):
        assert_refused(await ask(service, bob, method, path, json=body), 403, code="not_yours")
    assert (await ask(service, bob, "DELETE", f"{people}/{bob.user['id']}")).status_code == 204
    assert await titles(service, bob) == []
    assert_refused(await ask(service, bob, "GET", f"/{made['id']}"), 404, code="conversation_not_found")
    assert_refused(await ask(service, ada, "DELETE", f"{people}/{bob.user['id']}"), 404, code="participant_not_found")


async def test_operators_open_invite_and_remove_everywhere(service: Service) -> None:
    ada, bob, operator = await service.register(), await service.register(), await service.with_role("operator")
    made = await make(service, ada)
    people = f"/{made['id']}/participants"

    invited = await ask(service, operator, "POST", people, json={"user_id": bob.user["id"]})

    assert invited.status_code == 201
    assert (await ask(service, operator, "GET", f"/{made['id']}")).json()["owner_id"] == ada.user["id"]
    assert (await ask(service, operator, "DELETE", f"{people}/{bob.user['id']}")).status_code == 204


async def test_nobody_unknown_is_invited_and_not_everybody(
    service: Service, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob, eve = [await service.register() for _ in range(3)]
    people = f"/{(await make(service, ada))['id']}/participants"
    monkeypatch.setattr("parley.chat.conversations.MAX_PARTICIPANTS", 1)

    unknown = await ask(service, ada, "POST", people, json={"user_id": str(uuid.uuid4())})
    owner = await ask(service, ada, "POST", people, json={"user_id": ada.user["id"]})
    first, second = [await ask(service, ada, "POST", people, json={"user_id": one.user["id"]}) for one in (bob, eve)]

    assert_refused(unknown, 422, code="unknown_user")
    assert unknown.json()["error"]["param"] == "user_id"
    assert_refused(owner, 422, code="invalid_value")
    assert first.status_code == 201
    assert_refused(second, 409, code="too_many_participants")


async def test_participants_are_paged(service: Service) -> None:
    ada = await service.register()
    path = f"/{(await make(service, ada))['id']}/participants"
    ids = sorted([(await service.register()).user["id"] for _ in range(3)])
    for user_id in reversed(ids):
        await ask(service, ada, "POST", path, json={"user_id": user_id})

    async def page(**query: Any) -> tuple[list[str], bool]:
        body = (await ask(service, ada, "GET", path, params=query)).json()
        return [one["user_id"] for one in body["data"]], body["has_more"]

    assert await page(limit=2) == (ids[:2], True)
    assert await page(limit=2, after=ids[1]) == (ids[2:], False)
    assert await page(limit=1, before=ids[2]) == ([ids[1]], True)


async def test_a_guest_that_registers_keeps_the_conversations(service: Service) -> None:
    guest = await service.guest()
    made = await make(service, guest)

    body = {"email": "eve@shop.example", "password": "correct horse battery"}
    answer = await service.http.post("/auth/register", json=body, headers=guest.headers)

    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await service.http.get(f"{CONVERSATIONS}/{made['id']}", headers=headers)).status_code == 200
