"""A steady load of people who register, sign in, refresh and ask who they are; it keeps account of every promise."""

import asyncio
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.bench.wire import Answer, Connection, request

PASSWORD = "correct horse battery"
PEOPLE = 6
PAUSE_S = 0.03
PATIENCE_S = 30.0
ATTEMPTS = 200
MAY_ANSWER = {"register": {201}, "login": {200}, "me": {200}, "refresh": {200}, "refresh again": {200, 401}}


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not answered as it should have been."""

    began: float
    ended: float
    what: str
    why: str
    """A status, or the name of what became of the connection."""


@dataclass
class Account:
    """What was promised and what was seen."""

    registered: list[str] = field(default_factory=list)
    accepted: Counter[str] = field(default_factory=Counter)
    """How often each refresh token was exchanged for new ones."""
    failures: list[Failure] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    """Answers that nothing excuses."""
    port: int = 0

    def exchanged_twice(self) -> list[str]:
        return [token for token, times in self.accepted.items() if times > 1]


class Person:
    """One client with one connection, which lives one life after the other."""

    def __init__(self, account: Account, seed: int) -> None:
        self._account = account
        self._random = random.Random(seed)
        self._connection: Connection | None = None
        self._email = self._access = self._refresh = ""

    async def live(self) -> None:
        """Ask on and on."""
        try:
            while True:
                await self._step()
                await asyncio.sleep(PAUSE_S)
        finally:
            self.leave()

    def leave(self) -> None:
        """Close the connection, whatever is under way on it."""
        if self._connection is not None:
            self._connection.transport.abort()
            self._connection = None

    async def _step(self) -> None:
        chance = self._random.random()
        if not self._access or chance < 0.15:
            await self._register()
        elif chance < 0.3:
            await self._log_in()
        elif chance < 0.55:
            await self._renew()
        else:
            await self._ask("me", request("GET", "/auth/me", token=self._access))

    async def _register(self) -> None:
        email = f"{os.urandom(8).hex()}@shop.example"
        answer = await self._ask(
            "register", request("POST", "/auth/register", body={"email": email, "password": PASSWORD})
        )
        if answer:
            self._account.registered.append(email)
            self._take(answer, email)

    async def _log_in(self) -> None:
        answer = await self._ask(
            "login", request("POST", "/auth/token", form={"username": self._email, "password": PASSWORD})
        )
        if answer:
            self._take(answer, self._email)

    async def _renew(self) -> None:
        """Exchange the token, now and then by two at once; after a doubtful end sign in again, as clients do."""
        sent, token = request("POST", "/auth/refresh", body={"refresh_token": self._refresh}), self._refresh
        if self._random.random() < 0.3:
            rival = Person(self._account, 0)
            try:
                answers = [*await asyncio.gather(self._ask("refresh again", sent), rival._ask("refresh again", sent))]
            finally:
                rival.leave()
        else:
            answers = [await self._ask("refresh", sent)]
        won = [answer for answer in answers if answer and answer.status == 200]
        self._account.accepted[token] += len(won)
        if won:
            self._take(won[0], self._email)
        else:
            await self._log_in()

    def _take(self, answer: Answer, email: str) -> None:
        body = answer.json()
        self._email, self._access, self._refresh = email, body["access_token"], body["refresh_token"]

    async def _ask(self, what: str, sent: bytes) -> Answer | None:
        """Return the answer when it is one that fits; note everything else."""
        began = time.monotonic()
        try:
            if self._connection is None or self._connection.transport.is_closing():
                self._connection = await Connection.open(self._account.port)
            answer = await self._connection.ask(sent, PATIENCE_S)
        except (OSError, TimeoutError) as error:
            self.leave()
            self._failed(began, what, type(error).__name__)
            return None
        self._account.answered[f"{what} {answer.status}"] += 1
        if answer.status in MAY_ANSWER[what]:
            return answer
        self._failed(began, what, str(answer.status))
        if answer.status != 503 or answer.header("retry-after") is None:
            self._account.odd.append(f"{what}: {answer.status} {answer.body.decode()}")
        return None

    def _failed(self, began: float, what: str, why: str) -> None:
        self._account.failures.append(Failure(began, time.monotonic(), what, why))


@asynccontextmanager
async def steady_load(account: Account, seed: int) -> AsyncIterator[None]:
    """Keep people busy during the block."""
    people = [Person(account, seed + number) for number in range(PEOPLE)]
    living = [asyncio.create_task(person.live(), name="person") for person in people]
    try:
        yield
    finally:
        for life in living:
            life.cancel()
        ended = await asyncio.gather(*living, return_exceptions=True)
    for end in ended:
        if isinstance(end, Exception):
            raise end


async def cannot_log_in(port: int, emails: list[str]) -> dict[str, int]:
    """Return those who were told that they have an account and cannot sign in."""
    refused: dict[str, int] = {}
    waiting = iter(emails)

    async def try_all() -> None:
        connection = await Connection.open(port)
        for email in waiting:
            answer = await connection.ask(
                request("POST", "/auth/token", form={"username": email, "password": PASSWORD})
            )
            if answer.status != 200:
                refused[email] = answer.status
        await connection.close()

    await asyncio.gather(*(try_all() for _ in range(8)))
    return refused


async def accepted_once_more(port: int, tokens: list[str]) -> list[str]:
    """Return refresh tokens that were exchanged before and are taken again."""
    taken = []
    connection = await Connection.open(port)
    for token in tokens:
        answer = await connection.ask(request("POST", "/auth/refresh", body={"refresh_token": token}))
        if answer.status != 401:
            taken.append(f"{answer.status} {answer.body.decode()}")
    await connection.close()
    return taken


async def ready_everywhere(port: int, patience_s: float, probes: int = 40) -> float:
    """Return the seconds until so many fresh connections, in every worker's share, are told of a ready one."""
    began = time.monotonic()

    async def probe() -> None:
        while True:
            try:
                connection = await Connection.open(port)
                answer = await connection.ask(request("GET", "/health/ready"), patience_s)
                await connection.close()
                if answer.status == 200:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.02)

    async with asyncio.timeout(patience_s):
        await asyncio.gather(*(probe() for _ in range(probes)))
    return time.monotonic() - began


def grouped(failures: list[Failure]) -> dict[str, int]:
    """Return how many there were of each kind."""
    counted: defaultdict[str, int] = defaultdict(int)
    for failure in failures:
        counted[f"{failure.what} {failure.why}"] += 1
    return dict(counted)
