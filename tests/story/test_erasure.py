"""A person is erased while they chat: nothing of them stays in PostgreSQL, Redis, files and logs (canaries)."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import redis.asyncio
from jose import jwt
from tests.fixtures.warm import begin, lived
from tests.story.chatting import Chatting, Person, Stage, staged

CANARY = "Qanaryx"  # a word like others, so that search indexes keep it, too
REWRITES = 6
CLOSED_WITHIN_S = 5.0
ECHO = '''
"""An agent that repeats what it is told and whom it is talking to, and then goes on for as long as it is let."""
import asyncio
from parley.agents.interface import Finished, TextGrew

async def answer(turn):
    yield TextGrew(f"{turn.user.name} said: {turn.history[-1].content}")
    while "go on" in turn.history[-1].content:
        await asyncio.sleep(0.05)
        yield TextGrew(" and on")
    yield Finished("stop")
'''


@pytest.fixture
def house(place: Path) -> Iterator[Chatting]:
    """A service with engines of its own and an agent that echoes."""
    (place / "echo_agent.py").write_text(ECHO)
    places = [str(place), *filter(None, [os.environ.get("PYTHONPATH")])]
    running = Chatting(place, "--workers", "2", environ={"PYTHONPATH": os.pathsep.join(places)})
    yield running
    running.end()


@pytest_asyncio.fixture
async def stage(house: Chatting, at_leisure: None) -> AsyncIterator[Stage]:
    """Hold what the test opens on it."""
    async with staged(house) as made:
        yield made


async def cli(house: Chatting, *arguments: str) -> str:
    """Run a command on the service that runs."""
    with begin(
        [sys.executable, "-m", "parley", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=house.serving.data.parent,
        env={**os.environ, "PARLEY_DATA_DIR": str(house.serving.data)},
    ) as process:
        out, err = await asyncio.to_thread(lived, process, None, 60)
    assert (process.returncode, err.decode()) == (0, "")
    return str(out.decode())


async def ask(house: Chatting, person: Person, conversation_id: str | None, content: str, client_id: str) -> Any:
    """Ask and wait for the answer."""
    body = {"message": content, "conversation_id": conversation_id, "client_id": client_id}
    answer = await house.ask(person, "POST", "/chat/send", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def canary_person(house: Chatting) -> Person:
    """Register somebody whose every word is a canary."""
    sent = {"email": f"{CANARY}@shop.example", "password": "correct horse battery", "name": f"{CANARY} name"}
    body = (await house.ask(None, "POST", "/auth/register", json=sent)).json()
    # Told to the log of the database, too, as it would be on any day.
    assert (await house.ask(None, "POST", "/auth/register", json=sent)).status_code == 409
    return Person(body["user"]["id"], body["access_token"])


async def site_person(house: Chatting, admin: Person) -> Person:
    """Return somebody whom a site names in canaries, and who was a guest before."""
    origin = {"Origin": "https://canary.example"}
    site = (await house.ask(admin, "POST", "/auth/sites", json={"name": "Shop", "origins": [origin["Origin"]]})).json()
    guest = (await house.ask(None, "POST", "/auth/guest", json={"site_key": site["key"]}, headers=origin)).json()
    claims = {"sub": f"{CANARY}-sub", "name": f"{CANARY} site", "email": f"{CANARY}@site.example"}
    token = jwt.encode({**claims, "exp": int(time.time()) + 600}, site["secret"], "HS256")
    headers = {**origin, "Authorization": f"Bearer {guest['access_token']}"}
    body = {"site_key": site["key"], "token": token}
    named = (await house.ask(None, "POST", "/auth/identity", json=body, headers=headers)).json()
    return Person(named["user"]["id"], named["access_token"])


async def live_through_everything(stage: Stage, person: Person, ada: Person, agents: list[str]) -> str:
    """Put canaries wherever somebody can write; return the conversation of another in which they did, too."""
    house, mark = stage.chatting, person.id[-8:]
    for number, agent in enumerate(agents):
        own = {"title": f"{CANARY} title", "agent": agent, "client_id": f"{CANARY}-{mark}-{number}"}
        made = (await house.ask(person, "POST", "/chat/conversations", json=own)).json()
        answered = await ask(house, person, made["id"], f"{CANARY} delivery?", f"{CANARY}-{mark}-ask-{number}")
        for twice in range(2):  # the second is answered by the cache, where there is one
            await ask(house, person, made["id"], f"{CANARY} again {twice}", f"{CANARY}-{mark}-more-{number}-{twice}")
        rated = {"rating": "up", "comment": f"{CANARY} comment"}
        await house.ask(person, "POST", f"/chat/messages/{answered['reply']['id']}/feedback", json=rated)
    untitled = {"agent": agents[0]}
    theirs = (await house.ask(ada, "POST", "/chat/conversations", json=untitled)).json()["id"]
    await house.ask(ada, "POST", f"/chat/conversations/{theirs}/participants", json={"user_id": person.id})
    await ask(house, person, theirs, f"{CANARY} in the house of others", f"{CANARY}-{mark}-guest")
    adas = await ask(house, ada, theirs, "And what do I say?", f"ada-{mark}")
    rated = {"rating": "down", "comment": f"{CANARY} of a participant"}
    await house.ask(person, "POST", f"/chat/messages/{adas['reply']['id']}/feedback", json=rated)
    await house.ask(person, "GET", f"/chat/conversations?q={CANARY}")
    return str(theirs)


async def in_database(url: str, *words: str) -> list[str]:
    """Return where in any column of any table one of the words stands."""
    connection = await asyncpg.connect(url)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    found = []
    for (table,) in tables:
        rows = await connection.fetch(f"SELECT to_jsonb(t)::text || t::text AS row FROM {table} t")
        found += [f"{table}: {row['row']}" for row in rows for word in words if word.lower() in row["row"].lower()]
    await connection.close()
    return found


async def in_redis(url: str, *words: str) -> list[str]:
    """Return the keys in whose name or value one of the words stands."""
    client = redis.asyncio.Redis.from_url(url)
    reads: dict[Any, Any] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    found = []
    async for key in client.scan_iter(match="*"):
        kind = await client.type(key)
        if kind != b"none":
            text = repr((key, await reads[kind](key))).lower()
            found += [text[:500] for word in words if word.lower() in text]
    await client.aclose()
    return found


def in_files(folder: Path, *words: str, heap: bool = False) -> list[str]:
    """Return the files in which one of the words stands: those of the tables only if they are asked for."""
    found = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        is_heap = "postgres" in parts and path.name != "postgres.log" and "logs" not in parts
        if not path.is_file() or is_heap != heap or (heap and "pg_wal" in parts):
            continue
        data = path.read_bytes().lower()
        found += [f"{path}: {word}" for word in words if word.lower().encode() in data]
    return found


async def test_nothing_of_an_erased_person_stays(stage: Stage, place: Path) -> None:
    """Titles, words, feedback, client ids, tapes, kept answers, budgets, logs, and the files of the tables."""
    house = stage.chatting
    admin, ada = await house.person("admin"), await house.person()
    agents = [
        await house.agent("demo", kind="python:echo_agent:answer"),
        await house.agent("demo", caches=True),
        await house.agent("demo", tools=["search_knowledge", "handoff_to_human"]),
    ]
    told = house.serving.told()
    people = [await canary_person(house), await site_person(house, admin)]
    theirs = [await live_through_everything(stage, person, ada, agents) for person in people]
    words = [CANARY, *(person.id for person in people), *(person.id.replace("-", "") for person in people)]
    before = await in_database(told["database_url"], CANARY)
    kept = {line.partition(":")[0] for line in before}
    assert {"users", "conversations", "messages"} <= kept
    assert await in_redis(told["redis_url"], CANARY), "or the scan of Redis finds nothing anyway"
    exported = json.loads(await cli(house, "users", "export", people[0].id))
    assert json.dumps(exported).count(CANARY) > 20

    live = await house.conversation(people[0], agents[0])
    tab = await stage.tab(people[0], live)
    await tab.send(f"{CANARY} go on")
    await tab.until_text(30)
    watching = await stage.tab(ada, theirs[0])
    erasing = asyncio.create_task(house.ask(admin, "DELETE", f"/auth/users/{people[0].id}"))
    began = time.monotonic()
    await tab.until_over()
    closed_s = time.monotonic() - began
    answer = await erasing
    assert answer.status_code == 200, answer.text
    assert closed_s < CLOSED_WITHIN_S
    out = await cli(house, "users", "erase", people[1].id, "--yes")
    assert out.startswith(f"erased {people[1].id}: ")

    await watching.until(lambda history: CANARY not in json.dumps(watching.watch.state.shown(), default=str))
    shown = [message.content for message in watching.watch.state.shown()]
    assert shown[:2] == ["[erased]", "[erased]"]
    assert shown[2] == "And what do I say?"
    assert len(shown) == 4
    await asyncio.sleep(1)
    left = await in_database(told["database_url"], *words)
    assert [line for line in left if not (line.startswith("audit_log") and "user_erased" in line)] == []
    assert await in_redis(told["redis_url"], *words) == []
    assert in_files(house.serving.data, *words) == []
    assert [name for name in ("out", "err") for path in place.glob(f"*.{name}") if CANARY in path.read_text()] == []
    connection = await asyncpg.connect(told["database_url"])
    for _ in range(REWRITES):  # what a transaction of a worker may still see is kept until the next
        await connection.execute("VACUUM FULL ANALYZE")  # the planner keeps samples of columns as well
        await connection.execute("CHECKPOINT")
        if not (left_in_heap := in_files(house.serving.data, CANARY, heap=True)):
            break
        await asyncio.sleep(0.5)
    await connection.close()
    assert left_in_heap == []
    assert (await house.ask(people[0], "GET", "/auth/me")).status_code == 401
    assert (await house.ask(people[0], "POST", "/chat/conversations", json={})).status_code == 401
