"""Row 18: no space for the database or the logs. Questions are refused clearly, reads go on, nothing stands still."""

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from tests.fixtures.ports import free_port
from tests.ops.front import SHARED, Fleet
from tests.story.chatting import said, staged, tokens
from tests.story.conftest import place
from tests.story.serving import PATIENCE_S, Serving, wait_until

__all__ = ["place"]
SIZE_MIB = 4
ENGINE = "nobody"  # who root's PostgreSQL runs as
LARGE_BYTES = 15_000
needs_mount = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root, to mount a small file system"
)


class SmallDisk:
    """A file system of a few megabytes that holds the messages."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name

    def fill(self) -> None:
        with suppress(OSError), (self.path / "full").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    def free(self) -> None:
        (self.path / "full").unlink()


@contextmanager
def mounted(path: Path) -> Iterator[Path]:
    done = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", path], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["/bin/umount", path], check=True)


@pytest_asyncio.fixture
async def disk(database_url: str) -> AsyncIterator[SmallDisk]:
    """The test's database, with the table of messages on a disk that is nearly full."""
    with tempfile.TemporaryDirectory(prefix="test-parley-disk-") as folder:
        Path(folder).chmod(0o711)
        with mounted(Path(folder)) as path:
            space, name = path / "space", f"small_{os.getpid()}_{time.monotonic_ns()}"
            space.mkdir(mode=0o700)
            subprocess.run(["/bin/chown", ENGINE, space], check=True)
            connection = await asyncpg.connect(database_url)
            await connection.execute(f"CREATE TABLESPACE {name} LOCATION '{space}'")
            await connection.execute(f"ALTER TABLE messages SET TABLESPACE {name}")
            try:
                yield SmallDisk(path, name)
            finally:
                await connection.execute("ALTER TABLE messages SET TABLESPACE pg_default")
                await connection.execute(f"DROP TABLESPACE {name}")
                await connection.close()


@needs_mount
async def test_the_database_has_no_space(
    place: Path, database_url: str, redis_url: str, disk: SmallDisk, at_leisure: None
) -> None:
    """A running answer goes on and is stored when there is space again; a question is stored, or refused with 503."""
    fleet = await asyncio.to_thread(lambda: Fleet(place, database_url, redis_url))
    try:
        async with staged(fleet) as stage:
            anna, agent = await fleet.person(), await fleet.agent(tokens(150))
            running, other = [await fleet.conversation(anna, agent) for _ in range(2)]
            tab = await stage.tab(anna, running)
            reply = str((await tab.send("Hello?")).reply_id)
            await tab.until_text(20)
            disk.fill()
            path, answers = f"/chat/conversations/{other}/messages", []
            async with fleet.http(anna) as http:
                for number in range(8):
                    body = {"content": secrets.token_hex(LARGE_BYTES), "client_id": f"large-{number}"}
                    answers.append(await http.post(path, json=body))
                refused = [answer for answer in answers if answer.status_code != 202]
                assert refused
                for answer in refused:
                    assert answer.status_code in {409, 503}, answer.text  # five of them may wait
                    assert answer.status_code == 409 or "retry-after" in answer.headers
                assert 503 in {answer.status_code for answer in refused}
                for look in ("/chat/conversations", path, "/auth/me", "/health/ready"):
                    assert (await http.get(look)).status_code == 200, look
                await tab.until_text(len(said(150)))
                await asyncio.sleep(0.5)  # its end is tried meanwhile
                assert tab.history.end_of(reply) is None
                disk.free()
                assert (await tab.until_end(reply))["status"] == "complete"
                assert tab.history.text(reply) == said(150)
                assert not tab.history.of_type("restart")
                small = {"content": "And now?", "client_id": "after"}
                async with asyncio.timeout(PATIENCE_S):
                    while (await http.post(path, json=small)).status_code not in {200, 202}:
                        await asyncio.sleep(0.2)
            await stage.settle(running, other, patience_s=60)
    finally:
        await asyncio.to_thread(fleet.end)


def serving_into(place: Path, redirection: str, port: int) -> Serving:
    """Start a service whose output goes there."""
    shell = ("/bin/sh", "-c", f'exec "$0" "$@" {redirection}', sys.executable)
    return Serving(place, "--workers", "1", "--port", str(port), python=shell, environ=SHARED)


def answers(port: int, path: str = "/health/ready") -> float | None:
    """Return how long an answer took, None without one."""
    began = time.monotonic()
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return time.monotonic() - began if answer.status == 200 else None
    return None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_logs_have_no_space(place: Path) -> None:
    port = free_port()
    serving = serving_into(place, "> /dev/full 2> /dev/full", port)
    try:
        wait_until(lambda: answers(port) is not None, 3 * PATIENCE_S)
        assert all(answers(port, "/auth/me?" + "x" * 2000) is None for _ in range(20))  # 401, and a line each
        waits = [answers(port) for _ in range(20)]
        assert None not in waits
    finally:
        serving.end()
    assert serving.parent.returncode == 0


def test_nobody_reads_the_logs(place: Path) -> None:
    """A pipe that is full: lines are dropped, and nobody waits."""
    port, (reader, writer) = free_port(), os.pipe()
    serving = Serving(
        place,
        *("--workers", "1", "--port", str(port)),
        python=("/bin/sh", "-c", f'exec "$0" "$@" > /proc/self/fd/{writer}', sys.executable),
        environ=SHARED,
        process={"pass_fds": (writer,)},
    )
    os.close(writer)
    try:
        wait_until(lambda: answers(port) is not None, 3 * PATIENCE_S)
        for _ in range(150):  # more than a pipe holds
            answers(port, "/" + "x" * 2000)  # a line tells the path, not the query
        waits = [answers(port) or 5.0 for _ in range(20)]
        assert max(waits) < 4.0  # who waited for a reader would have no answer in five
    finally:
        serving.end()
        os.close(reader)
    assert serving.parent.returncode == 0
