"""Passwords: bcrypt in threads of its own, behind a bounded queue, at the same cost for accounts that do not exist.

The threads run at a lower priority than the event loop: a storm of sign-ins slows sign-ins, not chats.
"""

import asyncio
import os
import threading
import unicodedata
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from passlib.context import CryptContext

from parley.auth.errors import HashingBusy
from parley.auth.settings import AuthSettings
from parley.core.schemas import storable

MIN_CHARS = 8
MAX_BYTES = 72  # bcrypt reads no further: a longer password would be cut, silently
LOWER_PRIORITY = 10
T = TypeVar("T")


def acceptable(password: str) -> str:
    """Return the password in the form that is hashed, or raise ValueError with the reason."""
    normal = unicodedata.normalize("NFKC", storable(password))
    if len(normal) < MIN_CHARS:
        raise ValueError(f"must have at least {MIN_CHARS} characters")
    if len(normal.encode()) > MAX_BYTES:
        raise ValueError(f"must have at most {MAX_BYTES} bytes")
    return normal


class PasswordHasher:
    """Hashes and checks off the loop."""

    def __init__(self, settings: AuthSettings) -> None:
        self._context = CryptContext(schemes=["bcrypt"], bcrypt__rounds=settings.bcrypt_cost)
        self._threads = ThreadPoolExecutor(settings.hash_threads, "password", _lower_priority)
        self._capacity = settings.hash_queue + settings.hash_threads
        # One more than the threads: while one asks the database, another is hashed.
        self._turns = asyncio.Semaphore(settings.hash_threads + 1)
        # A hash of nobody's password: at once, which also loads bcrypt before anybody waits for it.
        self._dummy = self._threads.submit(lambda: str(self._context.hash("nobody's password")))
        self.waiting = 0

    @property
    def capacity(self) -> int:
        return self._capacity

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn to work with passwords, before anything is asked of the database; HashingBusy when full.

        A hundred who sign in at once queue up here, one after the other, instead of all being half done.
        """
        if self.waiting >= self._capacity:
            raise HashingBusy
        self.waiting += 1
        try:
            async with self._turns:
                yield
        finally:
            self.waiting -= 1

    async def hash(self, password: str) -> str:
        """Return the hash to store."""
        return await self._run(lambda: str(self._context.hash(password)))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Check a password against what is stored; without an account it takes as long and is False."""
        against = await asyncio.shield(asyncio.wrap_future(self._dummy)) if stored is None else stored
        try:
            normal = acceptable(password)
        except ValueError:
            normal = "never a password that was accepted"
            stored = None
        matches = await self._run(lambda: bool(self._context.verify(normal, against)))
        return matches and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash was made at another cost and should be made again."""
        return bool(self._context.needs_update(stored))

    def close(self) -> None:
        """Let the threads end; what still waits is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _lower_priority() -> None:
    if hasattr(os, "setpriority"):
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWER_PRIORITY)
