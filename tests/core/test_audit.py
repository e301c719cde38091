"""The audit trail in the database: written with what it tells of, and never changed."""

from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from tests.fixtures.service import Service

from parley.core import audit
from parley.core.audit import Caller, bind_caller
from parley.core.database import Database

ADA, SUBJECT = UUID(int=1), UUID(int=2)


@pytest.fixture
def database(service: Service) -> Database:
    return service.parts["database"]


async def actions(database: Database) -> list[str]:
    async with database.transaction() as db:
        return list((await db.scalars(text("SELECT action FROM audit_log ORDER BY id"))).all())


async def test_an_entry_names_the_caller_of_its_context(database: Database) -> None:
    bind_caller(Caller("203.0.113.9", "request-1"))
    async with database.transaction() as db:
        audit.record(db, "looked", actor_id=ADA, actor_role="admin", subject_id=SUBJECT, detail={"count": 3})

    async with database.transaction() as db:
        [row] = (await db.execute(text("SELECT * FROM audit_log"))).all()
    assert (row.action, row.actor_id, row.actor_role, row.subject_id) == ("looked", ADA, "admin", SUBJECT)
    assert (row.address, row.request_id, row.detail) == ("203.0.113.9", "request-1", {"count": 3})


async def test_what_did_not_happen_leaves_no_entry(database: Database) -> None:
    async def change() -> None:
        async with database.transaction() as db:
            audit.record(db, "changed", actor_id=ADA)
            await db.flush()
            await db.execute(text("SELEC 1"))

    with pytest.raises(ProgrammingError):
        await change()

    assert await actions(database) == []


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_log SET actor_id = NULL", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
async def test_entries_are_neither_changed_nor_removed(database: Database, statement: str) -> None:
    async with database.transaction() as db:
        audit.record(db, "looked", actor_id=ADA)

    with pytest.raises(DBAPIError, match="append only"):
        async with database.transaction() as db:
            await db.execute(text(statement))

    assert await actions(database) == ["looked"]


async def test_retention_may_remove_them_and_only_in_its_own_transaction(database: Database) -> None:
    async with database.transaction() as db:
        audit.record(db, "old", actor_id=ADA)
        audit.record(db, "new", actor_id=ADA)

    async with database.transaction() as db:
        await audit.allow_removal(db)
        await db.execute(text("UPDATE audit_log SET address = NULL"))
        await db.execute(text("DELETE FROM audit_log WHERE action = 'old'"))
    assert await actions(database) == ["new"]
    with pytest.raises(DBAPIError, match="append only"):
        async with database.transaction() as db:
            await db.execute(text("DELETE FROM audit_log"))
