"""One `parley serve` as a person sees it: what it prints, what it answers, which processes it has."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
from tests.fixtures.begun import copy_begun, without_settings
from tests.fixtures.warm import begin

HAS_PROC = Path("/proc/self/stat").exists()
PATIENCE_S = 30.0  # a busy machine; what is promised is measured on its own
GATE = """
import pathlib, sys, time
here = pathlib.Path(__file__).parent
exec((here / "fault").read_text())
sys.path.remove(str(here))
del sys.modules["uvloop"]
import uvloop
"""


def wait_until(holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> float:
    """Return how long it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < patience_s, "waited in vain"
        time.sleep(0.01)
    return time.monotonic() - began


def is_alive(pid: int) -> bool:
    """A zombie that nobody has collected yet counts as gone."""
    try:
        os.kill(pid, 0)
        return _state(pid)[0] != "Z"
    except PermissionError:
        return True
    except OSError:
        return False


def _state(pid: int) -> tuple[str, int]:
    if HAS_PROC:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    else:
        state, parent = subprocess.check_output(["/bin/ps", "-o", "stat=,ppid=", "-p", str(pid)], text=True).split()
    return state[0], int(parent)


def _command(pid: int) -> str:
    if HAS_PROC:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return subprocess.check_output(["/bin/ps", "-o", "command=", "-p", str(pid)], text=True)


def _all_pids() -> list[int]:
    if HAS_PROC:
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [int(word) for word in subprocess.check_output(["/bin/ps", "-axo", "pid="], text=True).split()]


class Gate:
    """In the place of a module that every worker imports late; whoever begins while it is shut does what it says."""

    def __init__(self, place: Path) -> None:
        self._folder = place / "gate"
        self._folder.mkdir()
        self.open()
        (self._folder / "uvloop.py").write_text(GATE)
        self.environ = {"PYTHONPATH": str(self._folder)}

    def shut(self, fault: str) -> None:
        (self._folder / "draft").write_text(fault)
        (self._folder / "draft").replace(self._folder / "fault")

    def open(self) -> None:
        self.shut("")


class Serving:
    """A running service, on a free port and in a folder that was used before unless told otherwise."""

    def __init__(
        self,
        place: Path,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        python: tuple[str, ...] | None = None,
        data: Path | None = None,
        process: Mapping[str, Any] | None = None,
        from_nothing: bool = False,
        is_cold: bool = False,
    ) -> None:
        self.data = data or place / "data"
        if not from_nothing:
            copy_begun(self.data, environ or {})
        number = len(list(place.glob("*.out")))
        self._out, self._err = place / f"{number}.out", place / f"{number}.err"
        port = () if "--port" in arguments else ("--port", "0")
        self.began = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            start = subprocess.Popen if is_cold or from_nothing or python or process else begin
            self.parent = start(
                [*(python or (sys.executable,)), "-m", "parley", "serve", *port, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=place,
                env={**without_settings(), "PARLEY_DATA_DIR": str(self.data), **(environ or {})},
                start_new_session=True,
                **(process or {}),
            )
        self._seen: set[int] = set()

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def address(self) -> str:
        found = re.search(r"^Service: (\S+)", self.out, re.MULTILINE)
        assert found, self.err
        return found[1]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def wait_ready(self) -> float:
        """Return the seconds from the start of the process to its word that it is ready."""
        wait_until(lambda: " ready after " in self.out or self.parent.poll() is not None)
        assert self.parent.poll() is None, self.err
        took = time.monotonic() - self.began
        self.processes()
        return took

    def wait_end(self) -> int:
        return self.parent.wait(PATIENCE_S)

    def answers(self) -> bool:
        with urllib.request.urlopen(f"{self.address}/health/live", timeout=10) as answer:
            return bool(answer.status == 200)

    def processes(self) -> dict[int, str]:
        """Return all descendants with their command lines, and remember them."""
        parents: dict[int, int] = {}
        for pid in _all_pids():
            try:
                parents[pid] = _state(pid)[1]
            except (OSError, ValueError, subprocess.SubprocessError):
                continue
        found, edge = set[int](), {self.parent.pid}
        while edge:
            edge = {pid for pid, parent in parents.items() if parent in edge}
            found |= edge
        self._seen |= found
        commands: dict[int, str] = {}
        for pid in found:
            try:
                commands[pid] = _command(pid)
            except (OSError, subprocess.SubprocessError):
                continue
        return commands

    def workers(self) -> set[int]:
        return {pid for pid, command in self.processes().items() if "parley.cli.worker" in command}

    def engine(self, name: str) -> int:
        """Return the one process of this engine that is our own child."""
        [pid] = [pid for pid, line in self.processes().items() if name in line and _state(pid)[1] == self.parent.pid]
        return pid

    def left(self) -> set[int]:
        """Return processes seen at any time that are still there."""
        return {pid for pid in self._seen if is_alive(pid)}

    def told(self) -> dict[str, Any]:
        return dict(json.loads((self.data / "running.json").read_text()))

    async def database_says(self, statement: str) -> Any:
        connection = await asyncpg.connect(self.told()["database_url"], timeout=2)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    def end(self) -> None:
        """End it, by its own numbers, whatever became of it."""
        if self.parent.poll() is None:
            self.processes()
            self.parent.send_signal(signal.SIGTERM)
            try:
                self.parent.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.parent.kill()
                self.parent.wait()
        wait_until(lambda: not self.left())
