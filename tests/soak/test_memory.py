"""20,000 connections that ask and vanish: the worker's memory stays where it was after the warm-up."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.bench.wire import Connection, request
from tests.soak.conftest import CHEAP, Figure
from tests.soak.load import PASSWORD
from tests.story.serving import HAS_PROC, Serving

REQUESTS, WARM_UP, AT_ONCE, SAMPLES = 20_000, 5_000, 32, 10
FLAT = 0.1
Serve = Callable[..., Serving]


def rss_mib(pid: int) -> float:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


async def come_and_vanish(port: int, token: str, count: int, chance: random.Random) -> None:
    """Ask in one of the ways people do, and leave at any moment: before, during or after the answer."""
    refused = request("POST", "/auth/refresh", body={"refresh_token": "x" * 40})
    whole = [request("GET", "/health/live"), request("GET", "/auth/me", token=token), refused]
    left = iter(range(count))

    async def visit() -> None:
        for _ in left:
            connection = await Connection.open(port)
            sent, chosen = chance.choice(whole), chance.random()
            if chosen < 0.3:
                await connection.ask(sent)
            elif chosen < 0.6:
                connection.transport.write(sent)
                await asyncio.sleep(chance.random() * 0.01)
            else:
                connection.transport.write(sent[: chance.randrange(len(sent))])
                await asyncio.sleep(0)
            connection.transport.abort()
            await connection.closed

    await asyncio.gather(*(visit() for _ in range(AT_ONCE)))


async def sample(port: int, pid: int, chance: random.Random) -> list[float]:
    """Return the memory after the warm-up and after each further part."""
    connection = await Connection.open(port)
    body = {"email": "churn@shop.example", "password": PASSWORD}
    token = (await connection.ask(request("POST", "/auth/register", body=body))).json()["access_token"]
    await come_and_vanish(port, token, WARM_UP, chance)
    found = [rss_mib(pid)]
    for _ in range(SAMPLES):
        await come_and_vanish(port, token, REQUESTS // SAMPLES, chance)
        found.append(rss_mib(pid))
    answer = await connection.ask(request("GET", "/auth/me", token=token))
    assert answer.status == 200
    await connection.close()
    return found


@pytest.mark.skipif(not HAS_PROC, reason="needs /proc to see another process's memory")
@pytest.mark.timeout(300)
def test_visitors_who_vanish_leave_no_memory_behind(serve: Serve, figure: Figure, seed: int) -> None:
    serving = serve("--workers", "1", environ=CHEAP)
    serving.wait_ready()
    [pid] = serving.workers()
    found = asyncio.run(sample(serving.port, pid, random.Random(seed)))
    figure(f"MiB after the warm-up and each {REQUESTS // SAMPLES}: {' '.join(f'{mib:.1f}' for mib in found)}")

    assert serving.workers() == {pid}
    assert "Traceback" not in serving.out + serving.err
    assert max(abs(mib / found[0] - 1) for mib in found) <= FLAT
