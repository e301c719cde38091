"""60 times kill -9 of a random child at a random moment, under load: nothing that was promised is lost."""

import asyncio
import os
import random
import re
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import pytest
import redis
import redis.asyncio
from tests.soak.conftest import CHEAP, Figure
from tests.soak.load import Account, Failure, accepted_once_more, cannot_log_in, grouped, ready_everywhere, steady_load
from tests.story.serving import Serving, is_alive

KILLS = 60
WORKERS = 4
ENGINE_BACK_S, WORKER_BACK_S = 2.0, 8.0
CALM_S = (0.1, 2.0)  # between one recovery and the next kill
REUSED_TOKENS = 500
RESET_S = 0.25  # until a client has noticed that its connection is gone
NAMES = {"worker": "parley.cli.worker", "PostgreSQL": "bin/postgres", "Valkey": "valkey-server"}
Serve = Callable[..., Serving]


@dataclass(frozen=True, slots=True)
class Kill:
    """What was killed, when, and how long it may be felt."""

    name: str
    at: float
    back_after_s: float
    excused_s: float
    """Of that, pauses by design and PostgreSQL's own recovery."""
    limit_s: float

    @property
    def is_slow(self) -> bool:
        return self.back_after_s - self.excused_s > self.limit_s

    def excuses(self, failure: Failure) -> bool:
        """Whether this is why a request failed. Nothing fails because Valkey is away."""
        if failure.ended < self.at:
            return False
        if self.name == "worker":
            return failure.why == "ConnectionResetError" and failure.began <= self.at + RESET_S
        return (
            self.name == "PostgreSQL"
            and failure.why == "503"
            and failure.began <= self.at + self.limit_s + self.excused_s
        )


async def postgres_answers(serving: Serving) -> bool:
    try:
        return bool(await serving.database_says("SELECT 1") == 1)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False


async def valkey_answers(serving: Serving) -> bool:
    async with redis.asyncio.Redis.from_url(serving.told()["redis_url"]) as client:
        try:
            return bool(await client.ping())
        except (OSError, redis.RedisError):
            return False


async def engine_back(answers: Callable[[Serving], Awaitable[bool]], serving: Serving, pid: int) -> None:
    while is_alive(pid) or not await answers(serving):
        await asyncio.sleep(0.01)


async def worker_back(serving: Serving, pid: int) -> None:
    while is_alive(pid) or len(await asyncio.to_thread(serving.workers) - {pid}) < WORKERS:
        await asyncio.sleep(0.05)
    await ready_everywhere(serving.port, 30.0)


async def kill_one(serving: Serving, chance: random.Random) -> Kill:
    """End one child and wait until its successor serves."""
    name, said = chance.choice(list(NAMES)), len(serving.err)
    if name == "worker":
        pid = chance.choice(sorted(await asyncio.to_thread(serving.workers)))
        back, limit_s = worker_back(serving, pid), WORKER_BACK_S
    else:
        pid = await asyncio.to_thread(serving.engine, NAMES[name])
        back, limit_s = (
            engine_back(postgres_answers if name == "PostgreSQL" else valkey_answers, serving, pid),
            ENGINE_BACK_S,
        )
    os.kill(pid, signal.SIGKILL)
    at = time.monotonic()
    async with asyncio.timeout(30.0):
        await back
    back_after_s = time.monotonic() - at
    # Whoever falls again within 10 s is started again after a pause, which is said.
    pauses = re.findall(r"starting it again(?: in ([\d.]+) s)?", serving.err[said:])
    assert len(pauses) == 1, serving.err[said:]
    excused_s = float(pauses[0] or 0) + (recovery_s(serving) if name == "PostgreSQL" else 0)
    return Kill(name, at, back_after_s, excused_s, limit_s)


def recovery_s(serving: Serving) -> float:
    """Return what PostgreSQL last took for its own recovery: that is up to the disk, and to what others do with it."""
    log = (serving.data / "logs" / "postgres.log").read_text()
    starts, ends = (
        re.findall(rf"^(\S+ \S+) UTC .* LOG:  {words}", log, re.MULTILINE)
        for words in ("starting PostgreSQL", "database system is ready to accept")
    )
    return (datetime.fromisoformat(ends[-1]) - datetime.fromisoformat(starts[-1])).total_seconds()


async def live_through(serving: Serving, account: Account, seed: int) -> list[Kill]:
    chance = random.Random(seed)
    kills = []
    async with steady_load(account, seed):
        await asyncio.sleep(1.0)
        for _ in range(KILLS):
            kills.append(await kill_one(serving, chance))
            await asyncio.sleep(chance.uniform(*CALM_S))
        await asyncio.sleep(ENGINE_BACK_S)
    return kills


@pytest.mark.timeout(600)
def test_kills_of_any_child_lose_nothing(serve: Serve, figure: Figure, seed: int) -> None:
    serving = serve("--workers", str(WORKERS), environ=CHEAP)
    serving.wait_ready()
    account = Account(port=serving.port)
    kills = asyncio.run(live_through(serving, account, seed))

    felt: defaultdict[str, list[float]] = defaultdict(list)
    unexcused = []
    for failure in account.failures:
        near = [kill for kill in kills if kill.excuses(failure)]
        if not near:
            unexcused.append(failure)
        for kill in near[-1:]:
            felt[kill.name].append(failure.began - kill.at)
    for name in ("worker", "PostgreSQL", "Valkey"):
        fallen = [kill for kill in kills if kill.name == name]
        times = sorted(kill.back_after_s for kill in fallen)
        own = max(kill.back_after_s - kill.excused_s for kill in fallen)
        figure(
            f"{name} killed {len(fallen)} times, back after {times[len(times) // 2]:.2f} s (median), "
            f"{times[-1]:.2f} s (longest), {own:.2f} s (longest without pauses and PostgreSQL's own recovery); "
            f"{len(felt[name])} requests failed, the last begun {max(felt[name], default=0):.2f} s after a kill"
        )
    figure(f"{sum(account.answered.values())} answers, {len(account.registered)} accounts, {dict(account.answered)}")
    figure(f"failed: {grouped(account.failures)}")
    lost = asyncio.run(cannot_log_in(serving.port, account.registered))
    spent = [token for token, times in account.accepted.items() if times]
    again = asyncio.run(accepted_once_more(serving.port, spent[-REUSED_TOKENS:]))
    figure(
        f"{len(lost)} accounts lost, {len(account.exchanged_twice())} of {len(spent)} refresh tokens exchanged twice, "
        f"{len(again)} taken again at the end"
    )

    assert account.odd == []
    assert lost == {}
    assert account.exchanged_twice() == []
    assert again == []
    assert unexcused == []
    assert [kill for kill in kills if kill.is_slow] == []
    assert len(serving.workers()) == WORKERS
