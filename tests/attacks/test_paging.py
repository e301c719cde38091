"""Lists that are asked for too much (RELIABILITY 5: 34): capped or refused by name, never somebody else's."""

import uuid
from typing import Any

import pytest
from tests.attacks.claims import assert_refused, assert_silent_about
from tests.attacks.test_mass_assignment import bare_app
from tests.chat.conftest import ask, make, titles
from tests.fixtures.service import Service

LISTS = {
    "/auth/audit",
    "/auth/sites",
    "/agents",
    "/agents/-/calls",
    "/chat/conversations",
    "/chat/conversations/{conversation_id}/messages",
    "/chat/conversations/{conversation_id}/participants",
}
BAD: list[dict[str, Any]] = [
    *({"limit": value} for value in (0, -1, 101, 10**9, 2**63, 10**40, "1.5", "1e1", "NaN", "", "٣x", "canary")),
    *(
        {place: value}
        for place in ("after", "before")
        for value in ("", "canary", "1", "-1", "' OR 1=1 --", "0" * 10_000, "\x00", "%00", "*")
    ),
]
BAD_WORDS: list[dict[str, Any]] = [
    {"q": "x" * 201},
    {"q": "x" * 10_000},
    {"q": "a\x00b"},
    {"q": "a\nb"},
    {"mode": "off"},
    {"mode": ""},
    {"archived": "canary"},
]
# Each means something to LIKE, to a query of words, to SQL, to a pattern.
INERT = [
    "%",
    "_",
    "%%%",
    "\\",
    "\\%",
    "'",
    "''",
    "a'b",
    "&",
    "|",
    "!",
    "!a",
    ":*",
    "a:*",
    "<->",
    "a <-> b",
    "( )",
    "(a",
]
INERT += ["' OR '1'='1", "'; DROP TABLE messages; --", "$1 :words %(words)s", "[a-z]*", ".*", "\\1", "*", "{a}", "~*"]
INERT += ["💥", "\u200b", "\u0301", "-" * 200, "( " * 100, "a-b" * 66, "https://a.example/b?c=d&e", "a@b.example"]


def test_every_list_is_here() -> None:
    document = bare_app().openapi()
    lists = {
        path
        for path, item in document["paths"].items()
        if any(parameter["name"] == "limit" for parameter in item.get("get", {}).get("parameters", []))
    }
    assert lists == LISTS


async def test_what_no_list_can_give_is_refused(service: Service, subtests: pytest.Subtests) -> None:
    admin = await service.with_role("admin")
    made = await make(service, admin, title="canary")
    for path in LISTS:
        bad = BAD + (BAD_WORDS if path == "/chat/conversations" else [])
        for query in bad:
            with subtests.test(path=path, query=str(query)[:60]):
                url = path.format(conversation_id=made["id"])
                answer = await service.http.get(url, params=query, headers=admin.headers)
                assert_refused(answer, 422, code="validation_error")
                assert_silent_about(answer, "canary", "x" * 201)


async def test_a_list_is_read_in_one_direction_at_a_time(service: Service) -> None:
    ada = await service.register()
    made = await make(service, ada)
    both = {"after": made["id"], "before": made["id"]}
    for path in ("", f"/{made['id']}/messages", f"/{made['id']}/participants"):
        assert_refused(await ask(service, ada, "GET", path, params=both), 422, code="invalid_value")


async def test_a_place_in_the_list_of_others_is_no_place(service: Service) -> None:
    ada, eve = await service.register(), await service.register()
    theirs = await make(service, ada, title="canary")
    await make(service, eve)
    answers = []
    for place in ("after", "before"):
        for conversation_id in (theirs["id"], str(uuid.uuid4())):
            answer = await ask(service, eve, "GET", "", params={place: conversation_id})
            assert_refused(answer, 404, code="conversation_not_found")
            answers.append({**answer.json(), "request_id": "", "instance": ""})
    assert all(answer == answers[0] for answer in answers)


async def test_a_deleted_place_still_says_where_to_read_on(service: Service) -> None:
    """Whoever pages while something is deleted must not begin anew."""
    ada = await service.register()
    made = [await make(service, ada, title=str(number)) for number in range(3)]
    await ask(service, ada, "DELETE", f"/{made[1]['id']}")

    assert await titles(service, ada, after=made[1]["id"]) == ["0"]
    assert await titles(service, ada, before=made[1]["id"]) == ["2"]


async def test_what_is_not_asked_for_changes_nothing(service: Service) -> None:
    ada = await service.register()
    for number in range(3):
        await make(service, ada, title=str(number))
    odd = {"offset": "-5", "page": "10", "owner_id": str(uuid.uuid4()), "order": "id; DROP TABLE users", "sort": "x"}

    assert await titles(service, ada, **odd) == ["2", "1", "0"]
    many = "&".join(f"limit={number}" for number in range(1, 101))
    assert len((await ask(service, ada, "GET", f"?{many}")).json()["data"]) == 3


async def test_signs_that_mean_something_elsewhere_find_nothing_here(
    service: Service, subtests: pytest.Subtests
) -> None:
    ada, operator = await service.register(), await service.with_role("operator")
    await make(service, ada, title="Order 4711 for Zoe")
    for words in INERT:
        with subtests.test(words):
            for caller in (ada, operator):
                assert await titles(service, caller, q=words) == []
    assert await titles(service, ada, q="zoe") == ["Order 4711 for Zoe"]
