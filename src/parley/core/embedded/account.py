"""The account PostgreSQL runs as, which is never root, and what that account can reach."""

import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from parley.core.embedded.errors import EmbeddedError
from parley.core.embedded.folder import is_root

NOBODY_ID = 65534  # what Linux calls nobody where no user database says otherwise
PROBE_TIMEOUT_S = 10.0

# Trying beats computing: modes, ACLs, mount options and security modules all have a say.
PROBE = """
import os, sys
user, group, *paths = sys.argv[1:]
os.setgroups([]); os.setgid(int(group)); os.setuid(int(user))
print("".join("1" if os.access(path, os.X_OK) else "0" for path in paths))
"""


@dataclass(frozen=True, slots=True)
class Account:
    """A user to become before a program starts."""

    user: int
    group: int


def postgres_account() -> Account | None:
    """Return who PostgreSQL has to become, or None where it can stay who we are."""
    if not is_root():
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(NOBODY_ID, NOBODY_ID)
    return Account(entry.pw_uid, entry.pw_gid)


def check_has_name(account: Account | None) -> None:
    """Raise EmbeddedError where the account has a number only, as in many containers: initdb insists on a name."""
    number = os.geteuid() if account is None else account.user
    try:
        pwd.getpwuid(number)
    except KeyError:
        raise EmbeddedError(
            f"PostgreSQL can only be initialised by a user with a name, and the user id {number} has none here. "
            "Add it to /etc/passwd, start as another user, or set DATABASE_URL."
        ) from None


def reachable(account: Account | None, *paths: Path) -> list[bool]:
    """Say for each folder or program whether the account can enter or execute it."""
    if account is None:
        return [os.access(path, os.X_OK) for path in paths]
    command = [sys.executable, "-I", "-S", "-c", PROBE, str(account.user), str(account.group), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROBE_TIMEOUT_S)  # noqa: S603  # ours
    if done.returncode != 0:
        raise EmbeddedError(
            "PostgreSQL refuses to run as root, and this process may not become another user. "
            "Start as a plain user, or set DATABASE_URL."
        )
    return [flag == "1" for flag in done.stdout.strip()]
