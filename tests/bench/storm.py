"""A storm of sign-ins at the real cost, and whether the service still answers its probe meanwhile."""

import asyncio
import time

import asyncpg
from tests.bench.servers import CORES, Server, pin
from tests.bench.table import Row
from tests.bench.wire import Connection, quantile, request

LOGINS = 100
EVERY_S = 0.01
PASSWORD = "correct horse battery"
PATIENCE_S = 60.0


async def login_storm(server: Server, database_url: str) -> list[Row]:
    """Sign in as many people at once."""
    names = await _people(server.port, database_url)
    pin(server.pid, CORES)  # as it runs in the field: hashing may use every core
    connections = [await Connection.open(server.port) for _ in names]
    over = asyncio.Event()
    sampling = asyncio.create_task(_sample(server.port, over))
    began = time.perf_counter()
    answers = await asyncio.gather(
        *(
            connection.ask(request("POST", "/auth/token", form={"username": name, "password": PASSWORD}), PATIENCE_S)
            for connection, name in zip(connections, names, strict=True)
        )
    )
    took = time.perf_counter() - began
    over.set()
    live_ms = sorted(await sampling)
    for connection in connections:
        await connection.close()
    failed = [answer.status for answer in answers if answer.status != 200]
    if failed:
        raise SystemExit(f"{len(failed)} of {LOGINS} logins failed: {set(failed)}")
    pin(server.pid, CORES[-1:])
    return [
        Row(f"{LOGINS} logins at once, bcrypt 12", [LOGINS / took], "logins/s"),
        Row("  /health/live meanwhile, p50", [quantile(live_ms, 0.5)], "ms"),
        Row("  /health/live meanwhile, p99", [quantile(live_ms, 0.99)], "ms"),
        Row(f"  /health/live meanwhile, longest of {len(live_ms)}", [live_ms[-1]], "ms"),
    ]


async def _people(port: int, database_url: str) -> list[str]:
    """Make one account over HTTP and copies of it in the database: all those hashes would take as long as the storm."""
    connection = await Connection.open(port)
    body = {"email": "storm@shop.example", "password": PASSWORD}
    answer = await connection.ask(request("POST", "/auth/register", body=body))
    await connection.close()
    if answer.status != 201:
        raise SystemExit(f"the first account was answered {answer.status}")
    database = await asyncpg.connect(database_url)
    await database.execute(
        "INSERT INTO users (id, email, name, password_hash, role) SELECT gen_random_uuid(), n || '.' || email, name,"
        " password_hash, role FROM users, generate_series(1, $1) AS n WHERE email = 'storm@shop.example'",
        LOGINS,
    )
    await database.close()
    return [f"{number}.storm@shop.example" for number in range(1, LOGINS + 1)]


async def _sample(port: int, over: asyncio.Event) -> list[float]:
    """Ask on fresh turns of the clock, whether or not the last answer has come: a stall must meet several samples."""
    idle: list[Connection] = []
    found: list[float] = []
    sent = request("GET", "/health/live")

    async def ask() -> None:
        connection = idle.pop() if idle else await Connection.open(port)
        began = time.perf_counter()
        await connection.ask(sent, PATIENCE_S)
        found.append((time.perf_counter() - began) * 1000)
        idle.append(connection)

    asking = set()
    while not over.is_set():
        asking.add(asyncio.create_task(ask()))
        await asyncio.sleep(EVERY_S)
    await asyncio.gather(*asking)
    for connection in idle:
        await connection.close()
    return found
