"""SIGHUP replaces the workers under a service that goes on, and SIGTERM lets a worker finish."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.wire import Connection, request
from tests.fixtures.begun import copy_begun, without_settings
from tests.story.serving import PATIENCE_S, Gate, Serving, is_alive, wait_until

Serve = Callable[..., Serving]
LIVE = request("GET", "/health/live")
IDLE_ENDS_S = 10.0  # those that are kept alive would stay for a minute
IN_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "parley", *sys.argv[1:]])
"""


@asynccontextmanager
async def opened(port: int) -> AsyncIterator[Connection]:
    connection = await Connection.open(port)
    try:
        yield connection
    finally:
        await asyncio.shield(connection.close())


@dataclass
class Load:
    """What clients met: with a connection for each request, and with one they keep."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)

    async def fresh(self, port: int) -> None:
        while True:
            async with opened(port) as connection:
                await self.ask(connection, "fresh")

    async def kept(self, port: int) -> None:
        while True:
            async with opened(port) as connection:
                while await self.ask(connection, "kept"):
                    await asyncio.sleep(0.001)
                    if connection.closed.done() or connection.transport.is_closing():
                        break

    async def ask(self, connection: Connection, name: str) -> bool:
        """Return whether the connection may be used again."""
        try:
            answer = await connection.ask(LIVE)
        except (OSError, TimeoutError) as error:
            self.failures.append(f"{name}: {error!r}")
            return False
        self.count(answer.status)
        return answer.header("connection") != "close"

    def count(self, status: int) -> None:
        self.answers += 1
        if status != 200:
            self.failures.append(str(status))


@asynccontextmanager
async def load(port: int) -> AsyncIterator[Load]:
    under = Load()
    clients = [asyncio.create_task(under.fresh(port)) for _ in range(3)]
    clients += [asyncio.create_task(under.kept(port)) for _ in range(3)]
    yield under
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)


def told(serving: Serving, line: str) -> Callable[[], bool]:
    return lambda: line in serving.err


async def replaced_under_load(serving: Serving) -> tuple[Load, list[set[int]]]:
    seen: list[set[int]] = []
    async with load(serving.port) as under:
        await asyncio.sleep(0.3)
        serving.parent.send_signal(signal.SIGHUP)
        serving.parent.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while "worker 2 replaced" not in serving.err and time.monotonic() < deadline:
            seen.append(await asyncio.to_thread(serving.workers))
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
    return under, seen


def test_sighup_replaces_the_workers_one_by_one_and_no_request_fails(serve: Serve, place: Path) -> None:
    """First with successors that die, which leaves the old ones; then with better ones; and then all are idle."""
    gate = Gate(place)
    serving = serve("--workers", "2", environ=gate.environ)
    serving.wait_ready()
    before = serving.workers()
    gate.shut("raise SystemExit(9)")
    serving.parent.send_signal(signal.SIGHUP)
    wait_until(told(serving, "worker 1 stays"))
    assert "its successor ended (exit code 9)" in serving.err
    assert serving.workers() == before
    assert serving.answers()

    gate.open()
    under, seen = asyncio.run(replaced_under_load(serving))
    print(f"{under.answers} answers, {len(under.failures)} failures")
    assert under.failures == []
    assert under.answers > 100
    assert not serving.workers() & before
    assert {len(pids) for pids in seen} <= {2, 3}
    assert serving.err.index("worker 1 replaced") < serving.err.index("worker 2 replaced")
    assert "starting it again" not in serving.err

    took_s = asyncio.run(stopped_while_idle(serving))
    print(f"idle connections closed after {took_s:.2f} s")
    assert took_s < IDLE_ENDS_S


async def stopped_while_idle(serving: Serving) -> float:
    """Tell each worker to end; return when its idle connections are closed."""
    connections = [await Connection.open(serving.port) for _ in range(8)]
    for connection in connections[:4]:
        await connection.ask(LIVE)
    await asyncio.sleep(0.5)
    began = time.monotonic()
    for pid in serving.workers():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    await asyncio.gather(*(connection.closed for connection in connections))
    return time.monotonic() - began


def test_a_successor_that_never_gets_ready_leaves_the_old_one(serve: Serve, place: Path) -> None:
    gate = Gate(place)
    serving = serve("--workers", "1", environ={**gate.environ, "PARLEY_REPLACE_TIMEOUT_S": "3"})
    serving.wait_ready()
    before = serving.workers()
    gate.shut("time.sleep(60)")
    serving.parent.send_signal(signal.SIGHUP)
    wait_until(lambda: bool(serving.workers() - before))
    wait_until(told(serving, "worker 1 stays"))
    wait_until(lambda: serving.workers() == before)
    assert serving.answers()


def test_a_worker_that_dies_during_a_replacement_is_replaced_at_once(serve: Serve, place: Path) -> None:
    gate = Gate(place)
    serving = serve("--workers", "2", environ=gate.environ)
    serving.wait_ready()
    before = serving.workers()
    gate.shut("if '--successor' in sys.argv: time.sleep(60)")
    serving.parent.send_signal(signal.SIGHUP)
    wait_until(lambda: len(serving.workers()) == 3)
    [successor] = serving.workers() - before
    for victim in before:  # also the one that waits for its successor
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(serving.workers() - before - {successor}) >= 1)
    assert "worker 2 was ended by SIGKILL; starting it again" in serving.err
    assert is_alive(successor)
    serving.parent.send_signal(signal.SIGTERM)
    assert serving.wait_end() == 0
    assert serving.left() == set()


async def slow_request(serving: Serving, number: signal.Signals, told: Callable[[], int], email: str) -> int:
    """Send half a request, then the signal, then the rest a second later."""
    whole = request("POST", "/auth/register", body={"email": email, "password": "correct horse battery"})
    async with opened(serving.port) as connection:
        connection.transport.write(whole[:-20])
        await asyncio.sleep(0.5)
        os.kill(told(), number)
        await asyncio.sleep(1.0)
        answer = await connection.ask(whole[-20:])
        assert answer.header("connection") == "close"
        await connection.closed
        return answer.status


def test_a_second_sighup_is_remembered_once_and_sigterm_finishes_a_request_under_way(serve: Serve) -> None:
    """Of one worker, which has a successor before it is done, and then of the whole service."""
    serving = serve("--workers", "1")
    serving.wait_ready()
    first = serving.workers()
    serving.parent.send_signal(signal.SIGHUP)
    wait_until(lambda: len(serving.workers()) == 2)
    for _ in range(3):
        serving.parent.send_signal(signal.SIGHUP)
    wait_until(lambda: serving.err.count("worker 1 replaced") == 2, 2 * PATIENCE_S)
    time.sleep(1)  # a third would have begun
    [old] = serving.workers()
    assert serving.err.count("worker 1 replaced") == 2
    assert old not in first
    assert serving.answers()

    async def live_through() -> None:
        slow = asyncio.create_task(slow_request(serving, signal.SIGTERM, lambda: old, "first@shop.example"))
        await asyncio.sleep(0.7)
        async with opened(serving.port) as fresh:
            assert (await fresh.ask(LIVE)).status == 200
        assert await slow == 201

    asyncio.run(live_through())
    assert "worker 1 takes no more work; starting another" in serving.err
    wait_until(lambda: not is_alive(old))
    assert len(serving.workers()) == 1
    last = slow_request(serving, signal.SIGTERM, lambda: serving.parent.pid, "last@shop.example")
    assert asyncio.run(last) == 201
    assert serving.wait_end() == 0
    assert serving.left() == set()


def test_the_end_of_its_terminal_stops_the_service(place: Path) -> None:
    leader, follower = pty.openpty()
    copy_begun(place / "data", {})
    with (place / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", IN_A_TERMINAL, "serve", "--port", "0", "--workers", "1"],
            stdin=follower,
            stdout=out,
            stderr=out,
            cwd=place,
            env={**without_settings(), "PARLEY_DATA_DIR": str(place / "data")},
            start_new_session=True,
        )
    os.close(follower)
    try:
        wait_until(lambda: " ready after " in (place / "out").read_text())
        os.close(leader)
        assert process.wait(PATIENCE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
