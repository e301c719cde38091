"""The doctor: what it says about each thing that can be wrong, and that nothing that hangs makes it hang."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from tests.cli.conftest import Outcome, Parley
from tests.fixtures.service import Service

NOBODY = "127.0.0.1:1"
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATIENCE_S = 20.0  # deadlines add up to less than half of it; the rest is a busy machine


def verdicts(outcome: Outcome) -> dict[str, tuple[str, str]]:
    """Return status and text by subject."""
    lines = [line for line in outcome.out.splitlines()[:-1] if not line.startswith(" ")]
    return {line[5:17].strip(): (line[:5].strip(), line[17:]) for line in lines}


def next_steps(outcome: Outcome) -> list[str]:
    return [line.partition("next: ")[2] for line in outcome.out.splitlines() if line.startswith("     next: ")]


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        yield f"{host}:{port}"


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """A server that treats each connection like this."""
    connections: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await answer(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        await asyncio.gather(*(task for task in connections if task))


def provider(status: str, body: str) -> AbstractAsyncContextManager[str]:
    """A model's provider with one answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n{body}".encode())
        await writer.drain()

    return answering(answer)


async def _bulk(reader: asyncio.StreamReader) -> bytes:
    size = int((await reader.readline())[1:])
    return (await reader.readexactly(size + 2))[:-2]


async def test_all_is_well(cold_parley: Parley, stores: dict[str, str]) -> None:
    outcome = await cold_parley("doctor", **stores)

    found = verdicts(outcome)
    assert (outcome.code, outcome.err) == (0, "")
    assert {status for status, _ in found.values()} == {"ok"}
    assert "PostgreSQL 18" in found["database"][1]
    assert "noeviction" in found["redis"][1]
    assert "demo model" in found["model"][1]
    assert next_steps(outcome) == []
    assert outcome.out.splitlines()[-1] == "ready to serve"


async def test_the_embedded_engines_are_started_for_the_moment(parley: Parley, data_folder: Path) -> None:
    outcome = await parley("doctor", PARLEY_DATA_DIR=str(data_folder))

    found = verdicts(outcome)
    assert (outcome.code, outcome.err) == (0, "")
    assert {"database", "migrations", "redis", "data folder"} <= found.keys()
    assert not (data_folder / "running.json").exists()


async def test_a_database_that_is_away(parley: Parley, redis_url: str) -> None:
    outcome = await parley("doctor", DATABASE_URL=f"postgresql://ada:canary@{NOBODY}/shop", REDIS_URL=redis_url)

    found = verdicts(outcome)
    assert outcome.code == 1
    assert found["database"] == ("fail", f"{NOBODY}/shop: nobody listens there")
    assert found["migrations"][0] == "warn"
    assert found["redis"][0] == "ok"
    assert next_steps(outcome) == ["start it, or correct DATABASE_URL"]
    assert "canary" not in outcome.out + outcome.err


async def test_a_redis_that_is_away(parley: Parley, database_url: str) -> None:
    outcome = await parley("doctor", DATABASE_URL=database_url, REDIS_URL=f"redis://:canary@{NOBODY}")

    assert outcome.code == 1
    assert verdicts(outcome)["redis"] == ("fail", f"{NOBODY}: nobody listens there")
    assert verdicts(outcome)["database"][0] == "ok"
    assert "canary" not in outcome.out + outcome.err


async def test_migrations_that_are_behind(parley: Parley, empty_database_url: str, redis_url: str) -> None:
    outcome = await parley("doctor", DATABASE_URL=empty_database_url, REDIS_URL=redis_url)

    assert outcome.code == 1
    assert verdicts(outcome)["migrations"][0] == "fail"
    assert next_steps(outcome) == ["parley migrate"]


async def test_a_variable_that_nobody_reads(parley: Parley, stores: dict[str, str]) -> None:
    outcome = await parley("doctor", **stores, PARLEY_WORKRES="2")

    assert outcome.code == 0
    assert "unknown setting PARLEY_WORKRES (did you mean PARLEY_WORKERS?)" in outcome.out
    assert outcome.out.splitlines()[-1] == "ready to serve, 1 warning"


async def test_production_without_what_it_needs(parley: Parley) -> None:
    outcome = await parley("doctor", PARLEY_ENVIRONMENT="production")

    assert outcome.code == 1
    assert "PARLEY_AUTH_SECRETS must be set" in verdicts(outcome)["settings"][1]


async def test_urls_that_are_none(parley: Parley) -> None:
    outcome = await parley("doctor", DATABASE_URL="http://ada:canary@db", REDIS_URL="hidden-canary")

    assert outcome.code == 1
    assert verdicts(outcome)["settings"][0] == "fail"
    assert "DATABASE_URL must look like" in outcome.out
    assert "canary" not in outcome.out + outcome.err


async def test_nothing_that_hangs_makes_it_hang(parley: Parley) -> None:
    with silent() as place:
        began = time.monotonic()
        outcome = await parley(
            "doctor",
            DATABASE_URL=f"postgresql://ada@{place}/shop",
            REDIS_URL=f"redis://{place}",
            OPENAI_API_KEY="sk-canary",
            OPENAI_BASE_URL=f"http://{place}/v1",
            PARLEY_PORT=place.partition(":")[2],
        )
        took_s = time.monotonic() - began

    found = verdicts(outcome)
    assert took_s < PATIENCE_S
    assert [found[name][0] for name in ("database", "redis", "model", "port")] == ["fail"] * 4
    assert all("no answer in time" in found[name][1] for name in ("database", "redis", "model"))
    assert "used by another program" in found["port"][1]


@pytest.mark.parametrize(
    ("answer", "verdict", "said"),
    [
        (("200 OK", '{"object":"list","data":[{"id":"gpt-5-mini","object":"model"}]}'), "ok", "gpt-5-mini at http://"),
        (("200 OK", '{"object":"list","data":[]}'), "warn", "does not list gpt-5-mini"),
        (("401 Unauthorized", '{"error":{"message":"wrong key sk-canary"}}'), "fail", "it refuses the key"),
        (("404 Not Found", "{}"), "warn", "lists no models"),
        (("200 OK", "<html>"), "fail", ""),
    ],
)
async def test_the_model_behind_a_key(
    parley: Parley, stores: dict[str, str], answer: tuple[str, str], verdict: str, said: str
) -> None:
    async with provider(*answer) as place:
        outcome = await parley(
            "doctor",
            **stores,
            OPENAI_API_KEY="sk-canary",
            OPENAI_BASE_URL=f"http://{place}/v1",
        )

    assert verdicts(outcome)["model"][0] == verdict
    assert said in verdicts(outcome)["model"][1]
    assert "canary" not in outcome.out + outcome.err


async def test_the_port_of_our_own_service_is_known(
    parley: Parley,
    start_on_socket: Callable[[], AbstractAsyncContextManager[Service]],
    stores: dict[str, str],
) -> None:
    async with start_on_socket() as service:
        port = service.base_url.rpartition(":")[2]
        outcome = await parley("doctor", **stores, PARLEY_PORT=port)

    assert verdicts(outcome)["port"] == ("ok", f"127.0.0.1:{port} is used by our own service")


async def test_a_redis_that_would_evict(parley: Parley, database_url: str) -> None:
    async def redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = b"redis_version:8.0.0\r\nmaxmemory_policy:allkeys-lru\r\n"
        answers = {b"PING": b"+PONG\r\n", b"INFO": b"$%d\r\n%s\r\n" % (len(info), info), b"HELLO": b"%0\r\n"}
        while count := (await reader.readline())[1:]:
            words = [await _bulk(reader) for _ in range(int(count))]
            writer.write(answers.get(words[0].upper(), b"+OK\r\n"))

    async with answering(redis) as place:
        outcome = await parley("doctor", DATABASE_URL=database_url, REDIS_URL=f"redis://{place}")

    assert outcome.code == 0
    assert "maxmemory-policy is allkeys-lru" in verdicts(outcome)["redis"][1]
    assert next_steps(outcome) == ["set maxmemory-policy to noeviction"]
