"""A storm of log-ins at full cost (issue 2, Done when 4): all succeed, and the worker's loop hardly notices.

The storm of a hundred is in tests/soak.
"""

import asyncio
import json
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.attacks.processes import served

STORM = 16
COST = 12
PROMISED_S, MARGIN = 0.050, 4  # the promise, and what a machine shared with other tests is forgiven
EVERY_S = 0.010
EMAIL, PASSWORD = "ada@shop.example", "correct horse battery"


class Wire:
    """One kept connection, as cheap as can be: the storm is the server's business, not ours."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Wire":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> int:
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await self._reader.readexactly(int(length.partition(b":")[2]))
        return int(head[9:12])

    def close(self) -> None:
        self._writer.close()


def request(method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: x", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "", "")
    return "\r\n".join(lines).encode() + body


async def sample_health(port: int, until: asyncio.Event) -> list[float]:
    """Ask at fixed moments, whatever became of the one before, so that a stall is counted by all it would have hit."""
    idle = [await Wire.open(port) for _ in range(4)]
    took: list[float] = []

    async def ask(due: float) -> None:
        wire = idle.pop() if idle else await Wire.open(port)
        assert await wire.ask(request("GET", "/health/live")) == 200
        took.append(time.perf_counter() - due)
        idle.append(wire)

    asking: list[asyncio.Task[None]] = []
    due = time.perf_counter()
    while not until.is_set():
        asking.append(asyncio.create_task(ask(due)))
        due += EVERY_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    await asyncio.gather(*asking)
    for wire in idle:
        wire.close()
    return took


async def storm(port: int, log_ins: int) -> tuple[list[int], float, list[float]]:
    over = asyncio.Event()
    form = request(
        "POST",
        "/auth/token",
        urlencode({"username": EMAIL, "password": PASSWORD}).encode(),
        "application/x-www-form-urlencoded",
    )
    register = request("POST", "/auth/register", json.dumps({"email": EMAIL, "password": PASSWORD}).encode())
    wires = [await Wire.open(port) for _ in range(log_ins)]
    assert await wires[0].ask(register) == 201
    sampling = asyncio.create_task(sample_health(port, over))
    began = time.perf_counter()
    statuses = await asyncio.gather(*(wire.ask(form) for wire in wires))
    took_s = time.perf_counter() - began
    over.set()
    for wire in wires:
        wire.close()
    return statuses, took_s, await sampling


def live_through_a_storm(place: Path, database_url: str, redis_url: str, log_ins: int) -> str:
    """Return what was measured."""
    cost = {"PARLEY_AUTH_BCRYPT_COST": str(COST)}
    with served(place, database_url, redis_url, "--workers", "1", **cost) as serving:
        statuses, took_s, health = asyncio.run(storm(serving.port, log_ins))

    health.sort()
    p50, p90, p99 = (health[int(len(health) * part)] for part in (0.5, 0.9, 0.99))
    figure = (
        f"{log_ins} log-ins at cost {COST} in {took_s:.1f} s; /health/live asked {len(health)} times: "
        f"p50 {p50 * 1000:.1f} ms, p90 {p90 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, worst {health[-1] * 1000:.1f} ms"
    )
    print(figure)
    assert statuses == [200] * log_ins
    assert len(health) > 50, "too short to say anything"
    assert p99 < 1.0
    assert p90 < PROMISED_S * MARGIN  # one moment in which the machine stands still is a hundredth of it
    return figure


@pytest.mark.timeout(400)  # hashing runs at low priority: a machine busy with other tests makes it wait
def test_a_storm_of_log_ins_succeeds_and_leaves_the_loop_alone(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    live_through_a_storm(tmp_path, database_url, redis_url, STORM)
