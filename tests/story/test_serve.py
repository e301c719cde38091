"""`parley serve` for real: zero set-up, and what is left of it after every kind of end."""

import asyncio
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from tests.bench.wire import Connection, request
from tests.core.embedded.plain_user import copy_checkout, plain_user
from tests.fixtures.begun import without_settings
from tests.fixtures.warm import begin, lived
from tests.story.serving import PATIENCE_S, Gate, Serving, is_alive, wait_until

Serve = Callable[..., Serving]
LIVE = request("GET", "/health/live")
TAKEN_S = 2.5  # by the others, who look ten times a second
GATE_S = 2 * TAKEN_S  # their successor's start is made to take longer
SLOW = 4  # the machine of a test may be that much busier than one that serves
HEAVY = {"fastapi", "starlette", "sqlalchemy", "alembic", "openai", "redis", "uvicorn", "asyncpg", "httpx", "slowapi"}


def answers(serving: Serving) -> bool:
    with suppress(OSError, urllib.error.URLError):
        return serving.answers()
    return False


def valkey_answers(serving: Serving) -> bool:
    with suppress(OSError, redis.RedisError), redis.Redis.from_url(serving.told()["redis_url"]) as client:
        return bool(client.ping())
    return False


def postgres_answers(serving: Serving) -> bool:
    # Starting up, or not there yet.
    with suppress(Exception):
        return bool(asyncio.run(serving.database_says("SELECT 1")) == 1)
    return False


def test_from_nothing_to_ready_and_from_there_to_nothing(serve: Serve) -> None:
    first = serve(from_nothing=True)
    print(f"ready from nothing in {first.wait_ready():.2f} s")
    assert first.answers()
    assert postgres_answers(first)
    assert valkey_answers(first)
    assert "embedded PostgreSQL 18" in first.out
    assert "demo model: set OPENAI_API_KEY for a real one" in first.out
    assert len(first.workers()) == 2
    secret = (first.data / "secret").read_text()
    first.parent.send_signal(signal.SIGTERM)
    assert first.wait_end() == 0
    assert first.left() == set()
    assert "starting it again" not in first.err
    assert not (first.data / "running.json").exists()

    second = serve("--workers", "1", is_cold=True)
    took = second.wait_ready()
    print(f"ready from an initialised folder in {took:.2f} s")
    assert took < 3 * SLOW
    assert (second.data / "secret").read_text() == secret


def test_a_command_beside_the_first_start_waits_for_the_engines(serve: Serve, place: Path) -> None:
    serving = serve("--workers", "1", from_nothing=True)
    wait_until((serving.data / "running.json").exists)
    with begin(
        [sys.executable, "-m", "parley", "migrate"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=place,
        env={**without_settings(), "PARLEY_DATA_DIR": str(serving.data)},
    ) as command:
        _, err = lived(command, None, 2 * PATIENCE_S)
    assert (command.returncode, err) == (0, b"")
    serving.wait_ready()


def test_ctrl_c_leaves_no_process_and_no_error(serve: Serve) -> None:
    serving = serve("--workers", "1")
    serving.wait_ready()
    os.killpg(serving.parent.pid, signal.SIGINT)  # a terminal tells the whole group
    began = time.monotonic()
    assert serving.wait_end() == 0
    print(f"stopped in {time.monotonic() - began:.2f} s")
    assert serving.left() == set()
    assert "starting it again" not in serving.err


@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_ctrl_c_during_the_first_start(serve: Serve, delay_s: float) -> None:
    serving = serve("--workers", "1", from_nothing=True)
    wait_until((serving.data / "lock").exists)
    time.sleep(delay_s)
    serving.processes()
    serving.parent.send_signal(signal.SIGINT)
    assert serving.wait_end() == 0
    assert serving.left() == set()
    assert "Traceback" not in serving.err


async def answered(connection: Connection, rest: bytes) -> float:
    """Return how long the rest of a request waits for its answer."""
    began = time.monotonic()
    assert (await connection.ask(rest)).status == 200
    await connection.close()
    return time.monotonic() - began


async def answered_without(serving: Serving, victim: int) -> list[float]:
    """Kill a worker with connections in its queue, and hold its successor; return how long everybody waits."""
    os.kill(victim, signal.SIGSTOP)
    workers = serving.workers()
    waiting = [await Connection.open(serving.port) for _ in range(40)]
    os.kill(victim, signal.SIGKILL)
    for connection in waiting:
        connection.transport.write(LIVE[:10])
    wait_until(lambda: bool(serving.workers() - workers))
    [successor] = serving.workers() - workers
    os.kill(successor, signal.SIGSTOP)
    try:
        took_s = await asyncio.gather(*(answered(connection, LIVE[10:]) for connection in waiting))
        for _ in range(200):
            took_s.append(await answered(await Connection.open(serving.port), LIVE))
    finally:
        os.kill(successor, signal.SIGCONT)
    assert serving.workers() - workers == {successor}
    return sorted(took_s)


async def answered_until_back(serving: Serving, victim: int) -> None:
    """Ask on and on, while the successor gets ready and takes its socket over."""
    until = time.monotonic() + GATE_S + 1.5
    while time.monotonic() < until or len(serving.workers() - {victim}) < 4:
        assert await answered(await Connection.open(serving.port), LIVE) < TAKEN_S


def test_kills_with_four_workers(serve: Serve, place: Path) -> None:
    gate = Gate(place)
    serving = serve("--workers", "4", environ=gate.environ)
    serving.wait_ready()
    gate.shut(f"time.sleep({GATE_S})")
    workers = serving.workers()
    assert len(workers) == 4

    victim = random.choice(sorted(workers))
    took_s = asyncio.run(answered_without(serving, victim))
    print(f"a worker is dead: answered after {took_s[120]:.3f} s (median), {took_s[-1]:.3f} s (longest)")
    assert took_s[-1] < 4 * TAKEN_S  # for as long as their successor is held they would wait
    asyncio.run(answered_until_back(serving, victim))
    gate.open()
    assert victim not in serving.workers()

    for name, is_back in (("bin/postgres", postgres_answers), ("valkey-server", valkey_answers)):
        pid = serving.engine(name)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]  # bound now
        took = wait_until(lambda is_back=is_back: is_back(serving))  # type: ignore[misc]  # bound now
        print(f"{name} back after {took:.2f} s")
        assert took < 2 * SLOW
        assert serving.engine(name) != pid
        assert serving.answers()
    assert len(serving.workers()) == 4

    asyncio.run(serving.database_says("CREATE TABLE kept AS SELECT 42 AS answer"))
    serving.processes()
    serving.parent.kill()
    serving.parent.wait()
    successor = serve("--workers", "1", "--port", str(serving.port))  # it may come at once
    took = wait_until(lambda: not serving.left(), 2 * SLOW)
    print(f"everything gone {took:.2f} s after the parent")
    assert took < 6
    print(f"taken over in {successor.wait_ready():.2f} s")
    assert successor.answers()
    assert len(successor.workers()) == 1
    assert asyncio.run(successor.database_says("SELECT answer FROM kept")) == 42


def test_a_second_serve_says_so_and_stops(serve: Serve) -> None:
    first = serve("--workers", "1")
    first.wait_ready()
    second = serve()
    assert second.wait_end() == 3
    assert str(first.data) in second.err
    assert f"process {first.parent.pid}" in second.err
    assert len(second.err.splitlines()) == 1
    assert first.answers()


def test_mistakes_are_one_line(serve: Serve, place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        for arguments, environ, words in (
            (["--port", str(port)], {}, f"Port {port} .* --port"),
            (["--host", "no.such.host.invalid"], {}, "unknown"),
            ([], {"PARLEY_KEEP_ALIVE_S": "long"}, "PARLEY_KEEP_ALIVE_S"),
            ([], {"PARLEY_ENVIRONMENT": "production"}, "DATABASE_URL must be set"),
        ):
            refused = serve(*arguments, environ=environ, from_nothing=True)
            assert refused.wait_end() == 1
            assert re.search(words, refused.err), refused.err
            assert len(refused.err.splitlines()) == 1
            assert refused.out == ""


def test_an_unknown_setting_is_pointed_out(serve: Serve) -> None:
    serving = serve("--workers", "1", environ={"PARLEY_WORKRES": "3"})
    wait_until(lambda: "unknown setting PARLEY_WORKRES (did you mean PARLEY_WORKERS?)" in serving.err)


def test_only_the_missing_engine_is_started(serve: Serve, database_url: str) -> None:
    url = database_url.replace("@/", ":canary@/")
    assert "canary" in url
    serving = serve("--workers", "1", environ={"DATABASE_URL": url})
    serving.wait_ready()
    assert serving.told()["database_url"] is None
    assert valkey_answers(serving)
    assert not any("bin/postgres" in line for line in serving.processes().values())
    assert "canary" not in serving.out + serving.err


def test_the_parent_imports_neither_the_app_nor_an_sdk(serve: Serve) -> None:
    serving = serve("--workers", "1", python=(sys.executable, "-X", "importtime"))
    serving.wait_ready()
    serving.end()
    imported = {line.rpartition("|")[2].strip() for line in serving.err.splitlines() if line.startswith("import time:")}
    assert "parley.settings" in imported
    assert {name.partition(".")[0] for name in imported} & HEAVY == set()
    assert "parley.app" not in imported


def test_a_worker_that_cannot_start_is_tried_again_and_the_service_stays(serve: Serve, place: Path) -> None:
    gate = Gate(place)
    gate.shut("raise SystemExit(9)")
    serving = serve("--workers", "1", environ=gate.environ)
    wait_until(lambda: serving.err.count("starting it again in") >= 3)
    assert serving.parent.poll() is None
    wait_until(lambda: "still starting" in serving.out)
    assert "Not ready yet: worker 1" in serving.out
    gate.open()
    wait_until(lambda: " ready after " in serving.out)
    assert serving.answers()


def test_as_a_plain_user(serve: Serve, place: Path) -> None:
    plain = plain_user(place)
    home = place / "home"
    home.mkdir(mode=0o700)
    plain.give(home)
    options = {"python": (plain.python,), "environ": plain.environ, "process": plain.process, "data": home / "data"}
    options |= {"from_nothing": True}
    first = serve("--workers", "1", **options)
    print(f"ready as a plain user in {first.wait_ready():.2f} s")
    assert (home / "data").stat().st_mode & 0o777 == 0o700
    workers = first.workers()
    os.kill(min(workers), signal.SIGKILL)
    wait_until(lambda: len(first.workers() - workers) == 1)
    for name in ("bin/postgres", "valkey-server"):
        pid = first.engine(name)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]  # bound now
    wait_until(lambda: postgres_answers(first) and valkey_answers(first), 2 * SLOW)
    first.processes()
    first.parent.kill()
    first.parent.wait()
    assert wait_until(lambda: not first.left(), 2 * SLOW) < 6
    second = serve("--workers", "1", **options)
    second.wait_ready()
    assert second.answers()
    second.parent.send_signal(signal.SIGTERM)
    assert second.wait_end() == 0
    assert second.left() == set()


def test_a_folder_of_root_is_refused_to_a_plain_user(serve: Serve, place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a folder that is not ours")
    plain = plain_user(place)
    (place / "data").mkdir(mode=0o711)
    refused = serve(python=(plain.python,), environ=plain.environ, process=plain.process)
    assert refused.wait_end() == 1
    assert "belongs to another user" in refused.err
    assert len(refused.err.splitlines()) == 1


def test_a_changed_source_replaces_the_workers(serve: Serve, place: Path) -> None:
    copy_checkout(place / "checkout")
    source = place / "checkout" / "src"
    changed = source / "parley" / "app.py"
    text = changed.read_text()
    changed.unlink()  # it is a link to the real one
    changed.write_text(text)
    serving = serve("--workers", "1", "--reload", environ={"PYTHONPATH": str(source)}, is_cold=True)
    serving.wait_ready()
    before = serving.workers()
    changed.write_text(text + "\n")
    wait_until(lambda: len(serving.workers() - before) == 1 and not serving.workers() & before)
    assert "app.py changed; replacing the workers" in serving.err
    wait_until(lambda: answers(serving))
