"""Accounts of a bench, signed in, and conversations of theirs."""

import os
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg
from tests.bench.storm import PASSWORD
from tests.bench.wire import Connection, request


class Person(NamedTuple):
    """Somebody who is signed in."""

    user_id: str
    access_token: str


async def sign_up(port: int, count: int) -> list[Person]:
    """Make accounts."""
    connection = await Connection.open(port)
    people = []
    for _ in range(count):
        body = {"email": f"{os.urandom(6).hex()}@shop.example", "password": PASSWORD}
        token = (await connection.ask(request("POST", "/auth/register", body=body))).json()["access_token"]
        told = (await connection.ask(request("GET", "/auth/me", token=token))).json()
        people.append(Person(told["id"], token))
    await connection.close()
    return people


async def begin_conversation(port: int, person: Person) -> str:
    """Make one as people do."""
    connection = await Connection.open(port)
    answer = await connection.ask(request("POST", "/chat/conversations", body={}, token=person.access_token))
    await connection.close()
    return str(answer.json()["id"])


async def make_conversations(database_url: str, people: Sequence[Person], count: int) -> list[tuple[str, Person]]:
    """Make many, in the database: what is measured is what comes after."""
    database = await asyncpg.connect(database_url)
    owners = [people[number % len(people)] for number in range(count)]
    rows = await database.fetch(
        "INSERT INTO conversations (id, owner_id) SELECT gen_random_uuid(), owner FROM unnest($1::uuid[]) AS owner"
        " RETURNING id, owner_id",
        [UUID(owner.user_id) for owner in owners],
    )
    await database.close()
    by_id = {UUID(person.user_id): person for person in people}
    return [(str(row["id"]), by_id[UUID(str(row["owner_id"]))]) for row in rows]
