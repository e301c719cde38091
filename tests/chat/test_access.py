"""What operators do in other people's conversations is in the audit trail; what people do in their own is not."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.attacks.wires import Talk, chatting, following, talk, watching
from tests.chat.conftest import Rows, ask, make
from tests.conftest import Start
from tests.fixtures.service import Account, Service

Step = Callable[[Service, Account, str], Awaitable[Any]]
NOT_THESE = "action NOT IN ('registered', 'user_created', 'logged_in')"


async def entries(rows: Rows) -> list[tuple[str, str, str]]:
    """Return action, role and conversation of every entry that is no sign-in, oldest first."""
    found = await rows.connection.fetch(f"SELECT * FROM audit_log WHERE {NOT_THESE} ORDER BY id")
    return [(row["action"], row["actor_role"], str(row["subject_id"])) for row in found]


def on(method: str, path: str = "", **options: Any) -> Step:
    async def step(service: Service, account: Account, conversation_id: str) -> Any:
        return await ask(service, account, method, f"/{conversation_id}{path}", **options)

    return step


@pytest.mark.parametrize(
    ("step", "action"),
    [
        (on("GET"), "conversation_read"),
        (on("GET", "/messages"), "conversation_read"),
        (on("GET", "/participants"), "conversation_read"),
        (on("PATCH", json={"mode": "human"}), "conversation_changed"),
        (on("POST", "/complete"), "conversation_completed"),
        (on("DELETE"), "conversation_deleted"),
        (on("POST", "/messages", json={"content": "May I help?"}), "message_sent"),
    ],
)
async def test_each_step_of_an_operator_is_one_entry(service: Service, rows: Rows, step: Step, action: str) -> None:
    ada, operator = await service.register(), await service.with_role("operator")
    conversation_id = (await make(service, ada))["id"]

    assert (await step(service, ada, conversation_id)).status_code < 300
    assert await entries(rows) == []
    conversation_id = (await make(service, ada))["id"]
    assert (await step(service, operator, conversation_id)).status_code < 300

    assert await entries(rows) == [(action, "operator", conversation_id)]


async def test_a_take_over_names_the_mode(service: Service, rows: Rows) -> None:
    ada, admin = await service.register(), await service.with_role("admin")
    conversation_id = (await make(service, ada))["id"]

    await ask(service, admin, "PATCH", f"/{conversation_id}", json={"mode": "human", "title": "Canary"})

    [row] = await rows.connection.fetch(f"SELECT * FROM audit_log WHERE {NOT_THESE}")
    assert (row["actor_id"], row["actor_role"]) == (uuid.UUID(admin.user["id"]), "admin")
    assert row["detail"] == '{"mode": "human", "changed": ["mode", "title"]}'


async def test_a_list_of_everybodys_conversations_is_an_entry_without_the_words(service: Service, rows: Rows) -> None:
    ada, operator = await service.register(), await service.with_role("operator")
    await make(service, ada)

    for account in (ada, operator):
        assert (await ask(service, account, "GET", "", params={"q": "canary"})).status_code == 200

    [row] = await rows.connection.fetch(f"SELECT * FROM audit_log WHERE {NOT_THESE}")
    assert (row["action"], row["actor_role"]) == ("conversations_listed", "operator")
    assert row["detail"] == '{"count": 0, "searched": true}'


async def test_what_is_refused_is_no_reading(service: Service, rows: Rows) -> None:
    operator = await service.with_role("operator")

    assert (await ask(service, operator, "GET", f"/{uuid.uuid4()}")).status_code == 404

    assert await entries(rows) == []


async def test_watching_is_one_entry_for_an_opening_however_much_is_seen(start_on_socket: Start, rows: Rows) -> None:
    """Over a socket and over a stream; the owner's own screens leave none."""
    async with chatting(start_on_socket) as service:
        conversation: Talk = await talk(service)
        operator = await service.with_role("operator")
        async with watching(conversation), following(conversation) as own:
            await own.until("reset")
            assert await entries(rows) == []
        async with watching(conversation, operator) as socket:
            for _ in range(3):
                await conversation.answered("A question with an answer of many pieces")
                await socket.until("complete")
        assert await entries(rows) == [("conversation_read", "operator", conversation.id)]
        async with following(conversation, operator) as stream:
            await stream.until("reset")
            assert len(await entries(rows)) == 2
