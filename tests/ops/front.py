"""nginx from Debian with the configuration we ship, in front of services on this machine."""

import contextlib
import itertools
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.fixtures.ports import free_port
from tests.story.chatting import ENVIRON, Chatting, Provider
from tests.story.conftest import made_place
from tests.story.serving import Serving

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "docker" / "nginx.conf"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="needs nginx (Debian: nginx-light)")
START_S = 10.0
NOTHING: Mapping[str, str] = {}
SHARED = {
    **ENVIRON,
    "PARLEY_AUTH_SECRETS": "two instances have one secret for all their tokens",
    "PARLEY_TRUSTED_PROXIES": "127.0.0.1/32",
}


def configuration(folder: Path, port: int, upstream: Sequence[int], changes: Mapping[str, str]) -> str:
    """Return the file we ship, changed in nothing but where things are and what the test asks for."""
    servers = "\n".join(f"        server 127.0.0.1:{number} max_fails=0;" for number in upstream)
    ours = re.compile(r"^ +server app-a:8000.*\n +server app-b:8000.*$", re.MULTILINE)
    text, found = ours.subn(servers, CONFIGURATION.read_text())
    assert found == 1
    for old, new in (
        ("listen 8080 ", f"listen 127.0.0.1:{port} "),
        ("/tmp/nginx", str(folder / "nginx")),
        ("worker_processes auto;", "worker_processes 1;"),
        ("/dev/stdout", str(folder / "access.log")),
        *changes.items(),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


class Front:
    """A running nginx."""

    def __init__(self, folder: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.pid = process.pid
        self._folder = folder

    @property
    def access(self) -> str:
        return (self._folder / "access.log").read_text()

    @property
    def errors(self) -> str:
        return (self._folder / "errors").read_text()


@contextmanager
def nginx(*upstream: int, changes: Mapping[str, str] = NOTHING) -> Iterator[Front]:
    """Run it in front of these ports."""
    assert NGINX is not None
    port = free_port()
    with made_place() as folder:
        folder.chmod(0o777)  # root's nginx serves as another user
        (folder / "nginx.conf").write_text(configuration(folder, port, upstream, changes))
        with (folder / "errors").open("wb") as errors:
            process = subprocess.Popen(
                [NGINX, "-p", str(folder), "-c", "nginx.conf", "-g", "daemon off;"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        try:
            deadline = time.monotonic() + START_S
            while not _listens(port):
                assert process.poll() is None, (folder / "errors").read_text()
                assert time.monotonic() < deadline, "nginx does not listen"
                time.sleep(0.02)
            yield Front(folder, port, process)
        finally:
            process.terminate()
            process.wait(START_S)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Fleet(Chatting):
    """Several `parley serve` on one PostgreSQL and one Valkey, behind one nginx."""

    def __init__(
        self, place: Path, database_url: str, redis_url: str, *, instances: int = 1, workers: int = 1, **environ: str
    ) -> None:
        self._place, self._database_url = place, database_url
        self.ports = {}
        self._numbers, self._admin = itertools.count(), None
        self.provider = Provider()
        self._environ = {
            **SHARED,
            "PARLEY_MODEL_BASE_URL": self.provider.url,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            **environ,
        }
        self._arguments = ("--workers", str(workers))
        self.instances: list[Serving] = []
        self.front: Front | None = None
        try:
            self.instances += [self._start(free_port()) for _ in range(instances)]
            for instance in self.instances:
                instance.wait_ready()
        except BaseException:
            self.end()
            raise
        self.serving = self.instances[0]

    @property
    def url(self) -> str:
        return self.front.url if self.front else self.serving.address

    def renew(self, number: int) -> None:
        """Start an instance again in the place of one that has ended."""
        self.instances[number] = self._start(self.instances[number].port)

    def end(self) -> None:
        for instance in self.instances:
            instance.end()
        self.provider.end()

    def _start(self, port: int) -> Serving:
        data = self._place / f"data-{port}"
        return Serving(self._place, *self._arguments, "--port", str(port), environ=self._environ, data=data)

    async def _database(self) -> Any:
        return await asyncpg.connect(self._database_url, timeout=5)
