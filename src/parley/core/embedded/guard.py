"""Runs as a script: ends the processes it was told of when its parent is gone, however that went.

Lines on standard input: `register <pid> <signal>`, `forget <pid>`. End of input is the parent's end. Imports nothing
of ours, so that it starts at once and cannot break with us. Standard library only.
"""

import contextlib
import os
import signal
import sys
import time

PATIENCE_S = 1.2  # then SIGKILL: everything has to be gone 2 s after the parent
POLL_S = 0.02


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as status:  # noqa: PTH123  # starts faster
            # Dead, and only not yet collected by whoever inherited it.
            return status.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not os.path.isdir("/proc/self")  # noqa: PTH112  # macOS has none; elsewhere it went just now
    except OSError:
        return False


def send(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def main() -> None:
    """Follow the parent to its end, then end what is registered."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    registered: dict[int, int] = {}
    for line in sys.stdin:
        verb, pid, *rest = line.split()
        if verb == "register":
            registered[int(pid)] = int(rest[0])
        else:
            registered.pop(int(pid), None)
    for pid, death_signal in registered.items():
        send(pid, death_signal)
    deadline = time.monotonic() + PATIENCE_S
    while any(is_alive(pid) for pid in registered) and time.monotonic() < deadline:
        time.sleep(POLL_S)  # noqa: TID251  # a script without a loop
    for pid in registered:
        send(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
