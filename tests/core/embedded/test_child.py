"""A supervised program, with Python one-liners in the place of engines."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from parley.core.embedded.child import Child
from parley.core.embedded.errors import EmbeddedError
from parley.core.embedded.program import Command, StopSteps, engine_environ
from parley.core.embedded.supervisor import Supervisor

FOREVER = "import time; time.sleep(60)"
BEGUN_S = 0.5  # past the launcher, so that signals meet the program itself
PATIENCE_S = 10.0  # what is waited for has been told to live for a minute
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"


class Script:
    """A program that is ready as soon as it runs."""

    death_signal = signal.SIGKILL

    def __init__(self, code: str, *, name: str = "script", steps: StopSteps = ((signal.SIGTERM, 5.0),)) -> None:
        self.name = name
        self.stop_steps = steps
        self.prepared = 0
        self.refuse_to_prepare = False
        self._code = code

    async def prepare(self) -> None:
        self.prepared += 1
        if self.refuse_to_prepare:
            raise EmbeddedError("not now")

    def command(self) -> Command:
        return Command([sys.executable, "-I", "-S", "-c", self._code], engine_environ())

    async def wait_ready(self) -> None:
        await asyncio.sleep(BEGUN_S)


@asynccontextmanager
async def supervised(*programs: Script) -> AsyncIterator[tuple[Supervisor, list[Child], list[str]]]:
    said: list[str] = []
    async with Supervisor(said.append) as supervisor:
        yield supervisor, [supervisor.start(program) for program in programs], said


async def ready(child: Child) -> int:
    await asyncio.wait_for(child.ready.wait(), PATIENCE_S)
    assert child.pid is not None
    return child.pid


async def test_a_killed_program_is_replaced_at_once_and_that_is_said() -> None:
    async with supervised(Script(FOREVER)) as (_, [child], said):
        first = await ready(child)
        os.kill(first, signal.SIGKILL)
        began = time.monotonic()
        while child.pid in {first, None}:
            await asyncio.sleep(0.01)
        assert time.monotonic() - began < PATIENCE_S
        assert await ready(child) != first
        assert said == ["script was ended by SIGKILL; starting it again"]


async def test_one_that_cannot_start_is_tried_again_ever_slower_and_never_given_up() -> None:
    async with supervised(Script("raise SystemExit(7)")) as (_, [child], said):
        async with asyncio.timeout(PATIENCE_S):
            while child.starts < 4:
                await asyncio.sleep(0.01)
        assert said[0] == "script ended (exit code 7); starting it again"
        assert said[1:3] == [f"script ended (exit code 7); starting it again in {pause} s" for pause in (0.2, 0.4)]
    assert all(child._next_pause_s(was_ready=False, lived_s=0) <= 5 for _ in range(2000))


async def test_one_that_cannot_be_prepared_is_tried_again() -> None:
    program = Script(FOREVER)
    program.refuse_to_prepare = True
    async with supervised(program) as (_, [child], said):
        await asyncio.sleep(0.1)
        program.refuse_to_prepare = False
        await ready(child)
        assert said[0] == "script could not be started: not now; starting it again"


async def test_whoever_lived_long_starts_again_without_a_pause() -> None:
    async with supervised(Script(FOREVER)) as (_, [child], _said):
        assert [child._next_pause_s(was_ready=False, lived_s=s) for s in (0, 0, 0, 60, 0)] == [0, 0.2, 0.4, 0, 0.2]


async def test_stopping_goes_from_asking_to_killing() -> None:
    program = Script(STUBBORN, steps=((signal.SIGTERM, 0.3), (signal.SIGKILL, 2.0)))
    async with supervised(program) as (supervisor, [child], said):
        pid = await ready(child)
        began = time.monotonic()
        await supervisor.stop([child])
        assert 0.3 <= time.monotonic() - began < PATIENCE_S
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert said == []


async def test_hurry_cuts_the_asking_short() -> None:
    program = Script(STUBBORN, steps=((signal.SIGTERM, 30.0), (signal.SIGKILL, 2.0)))
    async with supervised(program) as (supervisor, [child], _):
        await ready(child)
        stopping = asyncio.create_task(supervisor.stop([child]))
        await asyncio.sleep(0.1)
        supervisor.hurry()
        await asyncio.wait_for(stopping, PATIENCE_S)


async def test_whoever_was_ready_starts_again_without_a_pause_however_often() -> None:
    async with supervised(Script(FOREVER)) as (_, [child], _said):
        assert {child._next_pause_s(was_ready=True, lived_s=0.5) for _ in range(20)} == {0}


async def test_stopping_during_a_pause_or_a_start_leaves_nothing() -> None:
    for delay_s in (0.0, 0.005, 0.02, 0.05, 0.2):
        async with supervised(Script(FOREVER), Script("raise SystemExit(1)")) as (supervisor, children, _):
            await asyncio.sleep(delay_s)
            await asyncio.wait_for(supervisor.stop(children), 5)
            assert [child.pid for child in children] == [None, None]


async def test_a_replaced_program_is_a_new_one_without_a_word() -> None:
    async with supervised(Script(FOREVER)) as (_, [child], said):
        first = await ready(child)
        assert await child.replace(5)
        while child.pid in {first, None}:
            await asyncio.sleep(0.01)
        assert (await ready(child), said) != (first, ["anything"])
        assert said == []


async def test_the_old_one_runs_until_the_new_one_is_ready() -> None:
    async with supervised(Script(FOREVER)) as (_, [child], _said):
        first = await ready(child)
        replacing = asyncio.create_task(child.replace(5))
        await asyncio.sleep(0.15)
        assert (child.pid, child.starts, child.ready.is_set()) == (first, 2, True)
        assert await replacing
        assert child.pid != first
        assert child.ready.is_set()
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)


class Faulty(Script):
    """A program whose successors are not what it is."""

    def __init__(self, code: str, wait_s: float = BEGUN_S) -> None:
        super().__init__(FOREVER)
        self.successors = Script(code)
        self.wait_s = wait_s
        self.started = 0

    def successor_command(self) -> Command:
        self.started += 1
        return self.successors.command()

    async def wait_ready(self) -> None:
        await asyncio.sleep(self.wait_s if self.started else BEGUN_S)


@pytest.mark.parametrize(
    ("faulty", "words"),
    [
        pytest.param(Faulty("raise SystemExit(7)"), ["script: its successor ended (exit code 7)"], id="dies"),
        pytest.param(Faulty(FOREVER, wait_s=60), [], id="never gets ready"),
    ],
)
async def test_a_successor_that_does_not_get_ready_is_ended_and_the_old_one_stays(
    faulty: Faulty, words: list[str]
) -> None:
    async with supervised(faulty) as (_, [child], said):
        first = await ready(child)
        assert not await child.replace(1)
        assert (child.pid, child.ready.is_set(), said) == (first, True, words)
        assert faulty.started == 1


async def test_when_the_old_one_dies_meanwhile_its_successor_takes_its_place_at_once() -> None:
    async with supervised(Faulty(FOREVER, wait_s=2.0)) as (_, [child], said):
        first = await ready(child)
        replacing = asyncio.create_task(child.replace(5))
        await asyncio.sleep(0.2)
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_S):
            while child.pid in {first, None}:
                await asyncio.sleep(0.01)
        assert not child.ready.is_set()
        assert await replacing
        assert (child.starts, said) == (2, [])


async def test_stopping_during_a_replacement_ends_both() -> None:
    for delay_s in (0.0, 0.01, 0.05, 0.2):
        async with supervised(Faulty(FOREVER, wait_s=60)) as (supervisor, [child], _said):
            first = await ready(child)
            replacing = asyncio.create_task(child.replace(30))
            await asyncio.sleep(delay_s)
            replacing.cancel()
            await asyncio.gather(replacing, return_exceptions=True)
            await asyncio.wait_for(supervisor.stop([child]), 5)
            with pytest.raises(ProcessLookupError):
                os.kill(first, 0)


class Leaver(Script):
    """A program that says it takes no more work, and goes on for long."""

    def __init__(self) -> None:
        super().__init__(STUBBORN, steps=((signal.SIGTERM, 1.0), (signal.SIGKILL, 2.0)))
        self.leave = asyncio.Event()

    async def wait_ready(self) -> Awaitable[None]:  # type: ignore[override]  # it tells more
        await super().wait_ready()
        leave, self.leave = self.leave, asyncio.Event()
        return self._leaving(leave)

    async def _leaving(self, leave: asyncio.Event) -> None:
        await leave.wait()


async def test_one_that_takes_no_more_work_has_a_successor_before_it_ends() -> None:
    program = Leaver()
    leave = program.leave
    async with supervised(program) as (_, [child], said):
        first = await ready(child)
        leave.set()
        while child.pid == first:
            await asyncio.sleep(0.01)
        assert await ready(child) != first
        os.kill(first, 0)  # still there
        assert said == ["script takes no more work; starting another"]
        async with asyncio.timeout(PATIENCE_S):
            while is_alive(first):
                await asyncio.sleep(0.01)


async def test_a_killed_guard_is_replaced_and_knows_all_children() -> None:
    async with supervised(Script(FOREVER)) as (supervisor, [child], _):
        await ready(child)
        first = supervisor.guard_pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(5):
            while supervisor.guard_pid == first:
                await asyncio.sleep(0.01)


PARENT = """
import asyncio, signal, sys
sys.path.insert(0, sys.argv[1])
from test_child import FOREVER, STUBBORN, Script
from parley.core.embedded.supervisor import Supervisor

async def main():
    async with Supervisor(print, with_death_signal=sys.argv[2] == "1") as supervisor:
        children = [supervisor.start(Script(code)) for code in (FOREVER, STUBBORN)]
        for child in children:
            await child.ready.wait()
        print(*(child.pid for child in children), supervisor.guard_pid, flush=True)
        if sys.argv[3] == "1":
            import os
            os.kill(supervisor.guard_pid, signal.SIGKILL)
            print("guard killed", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("with_death_signal", "kill_guard"),
    [
        pytest.param("1", "0", id="both"),
        pytest.param("0", "0", id="guard alone"),
        pytest.param(
            "1",
            "1",
            id="kernel alone",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death"),
        ),
    ],
)
async def test_children_of_a_killed_parent_end_within_2_s(with_death_signal: str, kill_guard: str) -> None:
    here = str(Path(__file__).parent)
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, here, with_death_signal, kill_guard), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pids = [int(word) for word in (await asyncio.wait_for(parent.stdout.readline(), 20)).split()]
    if kill_guard == "1":
        await asyncio.wait_for(parent.stdout.readline(), 5)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(4 * 2):
        while any(is_alive(pid) for pid in pids):
            await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    """A zombie that nobody has collected yet counts as gone."""
    status = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
