"""Runs as a script: becomes the named account, ties its life to its parent, and turns into the program it is told.

A script of its own instead of `preexec_fn`, which may deadlock in a process with threads. Standard library only.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
FAILED = 127  # what shells say for a program that could not be started


def main() -> None:
    """Take: parent's process id, signal for its death (0 for none), user and group (or two dashes), the program."""
    parent, death_signal, user, group, *command = sys.argv[1:]
    if user != "-":
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    if int(death_signal) and sys.platform == "linux":
        # After the change of user, which would clear it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal))
    if os.getppid() != int(parent):
        sys.exit(FAILED)  # the parent died before it was watched
    try:
        os.execv(command[0], command)  # noqa: S606  # the parent chose the program
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}\n")
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
