"""What the supervisor has to know of a program it keeps running. A new kind of child implements this."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from parley.core.embedded.account import Account

LAUNCH = Path(__file__).with_name("launch.py")
LOG_LIMIT_BYTES = 10_000_000  # looked at before each start
StopSteps = Sequence[tuple[signal.Signals, float]]
"""Signals in the order they are tried, each with the seconds it is given."""


@dataclass(frozen=True, slots=True)
class Command:
    """One start of a program."""

    argv: Sequence[str]
    environ: Mapping[str, str]
    account: Account | None = None
    log: Path | None = None
    """Where its output goes; None: where ours goes."""
    is_piped: bool = False
    """Whether the caller feeds its input and reads its output instead."""
    folder: str | None = None
    """Where it starts; None: where we are."""
    descriptors: Sequence[int] = ()
    """What it inherits besides."""
    handed_over: Sequence[int] = ()
    """Those of them that are closed here once it has started."""


class Program(Protocol):
    """A program under supervision. The supervisor alone calls these, one after the other."""

    name: str
    death_signal: signal.Signals
    """What ends it within a second when its parent is gone."""

    @property
    def stop_steps(self) -> StopSteps: ...

    async def prepare(self) -> None:
        """Clear the way before each start: what a dead predecessor left behind."""
        ...

    def command(self) -> Command:
        """Say how to start it now."""
        ...

    async def wait_ready(self) -> Awaitable[None] | None:
        """Return once the program that was just started serves; cancelled when it ends before.

        What it returns, if anything, is done when the program takes no more work and only finishes what it has.
        """
        ...


@runtime_checkable
class Successive(Program, Protocol):
    """A program of which a second may run beside the first, and take over from it."""

    def successor_command(self) -> Command:
        """Say how to start one beside the one that runs."""
        ...


async def launch(command: Command, death_signal: signal.Signals | None) -> Process:
    """Start a program in a session of its own, so that Ctrl-C reaches only us.

    With a death signal the kernel ends it when the calling *thread* ends (Linux): call this from the main thread.
    """
    user, group = (command.account.user, command.account.group) if command.account else ("-", "-")
    output = _open_log(command.log) if command.log else None
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(death_signal or 0))),
            *(str(user), str(group), *command.argv),
            stdin=PIPE if command.is_piped else DEVNULL,
            stdout=PIPE if command.is_piped else output,
            stderr=STDOUT if command.is_piped else output,
            cwd=command.folder,
            env=dict(command.environ),
            pass_fds=tuple(command.descriptors),
            start_new_session=True,
        )
    finally:
        if output is not None:
            os.close(output)
        for descriptor in command.handed_over:
            os.close(descriptor)


def _open_log(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        flags |= os.O_TRUNC
    return os.open(path, flags, 0o600)


def engine_environ() -> dict[str, str]:
    """Return what engines see of our environment: nothing that could change what they do."""
    # The Python that launches them may be one that does not find its library otherwise.
    libraries = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **libraries}
