"""Agents over HTTP: for admins, versioned, refused by name when they cannot work."""

import asyncio
import json
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from tests.agents.test_callables import TURN
from tests.fixtures.service import Account, Service

from parley.agents import repository
from parley.agents.interface import Failed

PROMPT = {"prompt": "Answer in one sentence."}


async def write(service: Service, admin: Account, name: str, **fields: Any) -> httpx.Response:
    return await service.http.put(f"/agents/{name}", json={**PROMPT, **fields}, headers=admin.headers)


async def test_the_default_agent_is_there_from_the_start(service: Service) -> None:
    admin = await service.with_role("admin")

    [agent] = (await service.http.get("/agents", headers=admin.headers)).json()["data"]

    assert (agent["name"], agent["version"]) == ("support", 1)
    assert agent["definition"]["tools"] == ["search_knowledge", "current_time", "handoff_to_human"]
    assert (await service.http.get("/agents/support", headers=admin.headers)).json() == agent


async def test_who_asks_while_the_default_agent_is_being_stored_finds_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents, look = service.parts["agent_service"], repository.find_agent
    agents._is_seeded = False
    agents._known.clear()
    async with service.parts["database"].transaction() as db:
        await db.execute(text("TRUNCATE agents CASCADE"))
    others: list[asyncio.Task[Any]] = []

    async def find_agent(db: AsyncSession, name: str) -> Any:
        if not others:
            others.append(asyncio.create_task(agents.find_definition(None)))
            await asyncio.wait(others, timeout=0.5)
        return await look(db, name)

    monkeypatch.setattr(repository, "find_agent", find_agent)

    assert await agents.find_definition(None) is not None
    assert await others[0] is not None


async def test_an_edit_is_a_new_version_that_the_next_reply_runs_on(service: Service) -> None:
    admin = await service.with_role("admin")

    answer = await write(service, admin, "support", temperature=0.5, limits={"max_steps": 2})

    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    definition = await service.parts["agent_service"].find_definition(None)
    assert definition is not None
    assert (definition.version, definition.prompt, definition.temperature) == (2, PROMPT["prompt"], 0.5)
    assert definition.limits.max_steps == 2


async def test_edits_at_once_each_make_a_version(service: Service) -> None:
    admin = await service.with_role("admin")

    answers = await asyncio.gather(*(write(service, admin, "sales") for _ in range(8)))

    assert [answer.status_code for answer in answers] == [200] * 8
    newest = (await service.http.get("/agents/sales", headers=admin.headers)).json()
    assert newest["version"] == 8


async def test_the_list_is_paged(service: Service) -> None:
    admin = await service.with_role("admin")
    for name in ("a", "b", "c"):
        await write(service, admin, name)

    async def page(**query: Any) -> tuple[list[str], dict[str, Any]]:
        body = (await service.http.get("/agents", params=query, headers=admin.headers)).json()
        return [agent["name"] for agent in body["data"]], body

    names, first = await page(limit=2)
    rest, last = await page(limit=2, after=first["last_id"])
    back, _ = await page(limit=2, before=last["first_id"])

    assert (names, first["has_more"]) == (["support", "a"], True)
    assert (rest, last["has_more"]) == (["b", "c"], False)
    assert back == names


@pytest.mark.parametrize("role", ["user", "operator"])
async def test_agents_are_for_admins(service: Service, role: str) -> None:
    caller = await service.with_role(role)

    answers = [
        await service.http.get("/agents", headers=caller.headers),
        await service.http.get("/agents/support", headers=caller.headers),
        await write(service, caller, "support"),
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 403]


@pytest.mark.parametrize(
    ("name", "fields", "status", "param"),
    [
        ("support", {"tools": ["rm_rf"]}, 422, "tools"),
        ("support", {"prompt": ""}, 422, "prompt"),
        ("support", {"prompt": "Hello {{customer}}"}, 422, "prompt"),
        ("support", {"prompt": "Hello {{user_name"}, 422, "prompt"),
        ("support", {"temperature": 3}, 422, "temperature"),
        ("support", {"limits": {"max_steps": 1000}}, 422, "max_steps"),
        ("support", {"kind": "os.system"}, 422, "kind"),
        ("support", {"kind": "python:os:system"}, 422, "kind"),
        ("support", {"kind": "python:no_such_module:agent"}, 422, "kind"),
        ("support", {"version": 7}, 422, "version"),
        ("Not A Name", {}, 422, "name"),
    ],
)
async def test_what_cannot_work_is_refused_by_name(
    service: Service, name: str, fields: dict[str, Any], status: int, param: str
) -> None:
    admin = await service.with_role("admin")

    answer = await write(service, admin, name, **fields)

    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert (await service.http.get("/agents/support", headers=admin.headers)).json()["version"] == 1


async def test_a_refusal_says_what_to_mend_and_repeats_nothing(service: Service) -> None:
    admin = await service.with_role("admin")

    prompt = await write(service, admin, "support", prompt="Hello {{customer}}")
    kind = await write(service, admin, "support", kind="python:no_such_module:agent")

    assert prompt.json()["error"]["message"] == (
        "The prompt cannot be filled: unknown variable at character 7; "
        "there are {{agent_name}}, {{today}}, {{user_name}}."
    )
    assert kind.json()["error"]["message"] == "The kind names nothing that this server can import."


async def test_a_function_that_can_be_loaded_is_an_agent(service: Service) -> None:
    admin = await service.with_role("admin")

    answer = await write(service, admin, "echo", kind="python:tests.agents.test_callables:good")

    assert (answer.status_code, answer.json()["version"]) == (200, 1)


@pytest.mark.parametrize(
    "broken", [{"prompt": "Hello {{customer}}"}, {"kind": "python:os:system"}, {"limits": 7}, {"prompt": None}]
)
async def test_a_row_written_by_hand_fails_its_replies_and_nothing_else(
    service: Service, database_url: str, broken: dict[str, Any], logs: list[dict[str, Any]]
) -> None:
    admin = await service.with_role("admin")
    await write(service, admin, "support")
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE agent_versions SET definition = definition || $1::jsonb", json.dumps(broken))
    await connection.close()

    async with service.parts["agents"].run(TURN) as events:
        (last,) = [event async for event in events]

    assert isinstance(last, Failed)
    assert last.code == "agent_failed"
    assert [event["event"] for event in logs if event["level"] == "error"] == ["agent_not_usable"]


async def test_an_agent_nobody_made_is_not_found(service: Service) -> None:
    admin = await service.with_role("admin")

    assert (await service.http.get("/agents/nobody", headers=admin.headers)).status_code == 404
    assert await service.parts["agent_service"].find_definition("nobody") is None
