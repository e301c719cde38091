"""`parley serve` for real: zero set-up, and what is left of it after every kind of end."""

import asyncio
import os
import re
import signal
import socket
import sys
import time
import urllib.error
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from tests.core.embedded.plain_user import copy_checkout, plain_user
from tests.story.serving import Serving, is_alive, wait_until

Serve = Callable[..., Serving]
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
    first = serve()
    print(f"ready from nothing in {first.wait_ready():.2f} s")
    assert first.answers()
    assert postgres_answers(first)
    assert valkey_answers(first)
    assert "embedded PostgreSQL 18" in first.out
    assert "demo model: set OPENAI_API_KEY for a real one" in first.out
    assert len(first.workers()) == 2
    secret = (first.data / "secret").read_text()
    first.end()
    assert first.parent.returncode == 0
    assert not (first.data / "running.json").exists()

    second = serve()
    took = second.wait_ready()
    print(f"ready from an initialised folder in {took:.2f} s")
    assert took < 3 * SLOW
    assert (second.data / "secret").read_text() == secret


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_leave_no_process_and_no_error(serve: Serve, number: signal.Signals) -> None:
    serving = serve()
    serving.wait_ready()
    if number == signal.SIGINT:
        os.killpg(serving.parent.pid, number)  # a terminal tells the whole group
    else:
        serving.parent.send_signal(number)
    began = time.monotonic()
    assert serving.wait_end() == 0
    print(f"{number.name}: stopped in {time.monotonic() - began:.2f} s")
    assert serving.left() == set()
    assert "starting it again" not in serving.err


@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_ctrl_c_during_the_first_start(serve: Serve, delay_s: float) -> None:
    serving = serve()
    wait_until((serving.data / "lock").exists)
    time.sleep(delay_s)
    serving.processes()
    serving.parent.send_signal(signal.SIGINT)
    assert serving.wait_end() == 0
    assert serving.left() == set()
    assert "Traceback" not in serving.err


def test_kills_with_four_workers(serve: Serve) -> None:
    serving = serve("--workers", "4")
    serving.wait_ready()
    workers = serving.workers()
    assert len(workers) == 4

    victim = min(workers)
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    # Connections that hash to the dead worker wait for its successor; none is refused.
    assert all(serving.answers() for _ in range(40))
    wait_until(lambda: len(serving.workers() - {victim}) == 4)
    took = time.monotonic() - began
    assert victim not in serving.workers()
    print(f"worker replaced and serving after {took:.2f} s")
    assert took < 2 * SLOW

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

    serving.processes()
    serving.parent.kill()
    serving.parent.wait()
    took = wait_until(lambda: not serving.left(), 2 * SLOW)
    print(f"everything gone {took:.2f} s after the parent")
    assert took < 2

    successor = serve("--workers", "4", "--port", str(serving.port))
    print(f"taken over in {successor.wait_ready():.2f} s")
    assert successor.answers()
    assert len(successor.workers()) == 4


def test_the_next_start_may_come_at_once(serve: Serve) -> None:
    first = serve()
    first.wait_ready()
    asyncio.run(first.database_says("CREATE TABLE kept AS SELECT 42 AS answer"))
    port = first.port
    first.parent.kill()
    first.parent.wait()
    second = serve("--port", str(port))
    second.wait_ready()
    assert asyncio.run(second.database_says("SELECT answer FROM kept")) == 42


def test_a_second_serve_says_so_and_stops(serve: Serve) -> None:
    first = serve()
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
            refused = serve(*arguments, environ=environ)
            assert refused.wait_end() == 1
            assert re.search(words, refused.err), refused.err
            assert len(refused.err.splitlines()) == 1
            assert refused.out == ""


def test_an_unknown_setting_is_pointed_out(serve: Serve) -> None:
    serving = serve(environ={"PARLEY_WORKRES": "3"})
    serving.wait_ready()
    assert "unknown setting PARLEY_WORKRES (did you mean PARLEY_WORKERS?)" in serving.err


def test_only_the_missing_engine_is_started(serve: Serve, place: Path) -> None:
    other = serve("--workers", "1", data=place / "other")
    other.wait_ready()
    url = other.told()["database_url"].replace("@/", "somebody:canary@/").replace("parleysomebody", "parley")
    serving = serve("--workers", "1", environ={"DATABASE_URL": url})
    serving.wait_ready()
    assert serving.told()["database_url"] is None
    assert valkey_answers(serving)
    assert not any("bin/postgres" in line for line in serving.processes().values())
    assert "canary" not in serving.out + serving.err


def test_the_parent_imports_neither_the_app_nor_an_sdk(serve: Serve) -> None:
    serving = serve(python=(sys.executable, "-X", "importtime"))
    serving.wait_ready()
    serving.end()
    imported = {line.rpartition("|")[2].strip() for line in serving.err.splitlines() if line.startswith("import time:")}
    assert "parley.settings" in imported
    assert {name.partition(".")[0] for name in imported} & HEAVY == set()
    assert "parley.app" not in imported


def test_a_worker_that_cannot_start_is_tried_again_and_the_service_stays(serve: Serve, place: Path) -> None:
    broken = place / "broken"
    broken.mkdir()
    (broken / "uvloop.py").write_text("raise SystemExit(9)")
    serving = serve("--workers", "1", environ={"PYTHONPATH": str(broken)})
    wait_until(lambda: serving.err.count("starting it again in") >= 3)
    assert serving.parent.poll() is None
    wait_until(lambda: "still starting" in serving.out)
    assert "Not ready yet: worker 1" in serving.out
    (broken / "uvloop.py").unlink()
    wait_until(lambda: " ready after " in serving.out)
    assert serving.answers()


def test_as_a_plain_user(serve: Serve, place: Path) -> None:
    plain = plain_user(place)
    home = place / "home"
    home.mkdir(mode=0o700)
    plain.give(home)
    options = {"python": (plain.python,), "environ": plain.environ, "process": plain.process, "data": home / "data"}
    first = serve("--workers", "4", **options)
    print(f"ready as a plain user in {first.wait_ready():.2f} s")
    assert (home / "data").stat().st_mode & 0o777 == 0o700
    os.kill(min(first.workers()), signal.SIGKILL)
    wait_until(lambda: len(first.workers()) == 4)
    for name in ("bin/postgres", "valkey-server"):
        pid = first.engine(name)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]  # bound now
    wait_until(lambda: postgres_answers(first) and valkey_answers(first), 2 * SLOW)
    first.processes()
    first.parent.kill()
    first.parent.wait()
    assert wait_until(lambda: not first.left(), 2 * SLOW) < 2
    second = serve("--workers", "4", **options)
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
    serving = serve("--workers", "1", "--reload", environ={"PYTHONPATH": str(source)})
    serving.wait_ready()
    before = serving.workers()
    changed.write_text(text + "\n")
    wait_until(lambda: len(serving.workers() - before) == 1 and not serving.workers() & before)
    assert "app.py changed; replacing the workers" in serving.err
    wait_until(lambda: answers(serving))
