"""The one subscriber connection: what it promises while it lasts, and how it comes back."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from redis.asyncio import Redis
from tests.fixtures.fanout import DEADLINE_S, kill_clients, open_client, run_broker, until

from parley.core.fanout.broker import Broker
from parley.core.fanout.link import Link
from parley.core.line import Line
from parley.core.tasks import Tasks


@pytest_asyncio.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_client(redis_url) as client:
        yield client


@pytest_asyncio.fixture
async def broker(redis: Redis) -> AsyncIterator[Broker]:
    async with run_broker(redis) as running:
        yield running


async def subscribers(redis: Redis, channel: str) -> int:
    ((_, count),) = await redis.pubsub_numsub(channel)
    return int(count)


async def test_a_confirmed_subscription_hears_all_that_follows_in_order(redis: Redis, broker: Broker) -> None:
    heard: list[bytes] = []
    assert await broker.subscribe("news", heard.append)

    for number in range(100):
        await broker.publish("news", b"%d" % number)

    await until(lambda: len(heard) == 100)
    assert heard == [b"%d" % number for number in range(100)]


async def test_subscriptions_of_one_moment_go_in_one_command(redis: Redis, broker: Broker) -> None:
    before = (await redis.info("commandstats"))["cmdstat_subscribe"]["calls"]
    nothing: list[bytes] = []

    confirmed = await asyncio.gather(*(broker.subscribe(f"many:{n}", nothing.append) for n in range(200)))

    assert all(confirmed)
    # Other tests may subscribe on the same server, but not that often.
    assert (await redis.info("commandstats"))["cmdstat_subscribe"]["calls"] - before < 50


async def test_after_unsubscribing_nothing_is_heard_and_the_server_knows(redis: Redis, broker: Broker) -> None:
    heard: list[bytes] = []
    assert await broker.subscribe("left", heard.append)
    broker.unsubscribe("left")
    await redis.publish("left", b"unheard")

    async with asyncio.timeout(5):
        while await subscribers(redis, "left"):
            await asyncio.sleep(0.005)
    assert heard == []


async def test_the_last_to_leave_and_the_first_to_come_do_not_cross(redis: Redis, broker: Broker) -> None:
    heard: list[bytes] = []
    for number in range(200):
        assert await broker.subscribe("busy", heard.append)
        assert await redis.publish("busy", b"%d" % number) == 1
        broker.unsubscribe("busy")
        if number % 2:
            await asyncio.sleep(0)
        if number % 5 == 0:
            await asyncio.sleep(0.002)
        assert await broker.subscribe("busy", heard.append)

    assert await redis.publish("busy", b"end") == 1
    await until(lambda: heard[-1:] == [b"end"])


async def test_a_killed_connection_comes_back_with_all_channels_and_tells_of_a_gap(
    redis: Redis, broker: Broker
) -> None:
    gaps: list[bool] = []
    heard: list[bytes] = []
    for n in range(50):
        assert await broker.subscribe(f"kept:{n}", heard.append)
    broker.on_gap(lambda: gaps.append(True))

    for _ in range(3):
        gaps.clear()
        await kill_clients(redis, "pubsub")
        await until(lambda: bool(gaps))
        heard.clear()
        for n in range(50):
            await redis.publish(f"kept:{n}", b"x")
        await until(lambda: len(heard) == 50)


async def test_while_redis_is_away_a_subscription_is_refused_at_once_and_made_up_later(redis_url: str) -> None:
    heard: list[bytes] = []
    async with open_client("redis://127.0.0.1:1") as nowhere, open_client(redis_url) as redis:
        broker, tasks = Broker(Line(nowhere), DEADLINE_S), Tasks()
        tasks.keep("hear other workers", broker.run)
        try:
            await until(lambda: broker._failures >= 2)
            async with asyncio.timeout(0.1):
                assert not await broker.subscribe("later", heard.append)
            broker._line = Line(redis)
            await until(lambda: broker._subscriptions.is_confirmed(b"later"))
            await redis.publish("later", b"heard")
            await until(lambda: heard == [b"heard"])
        finally:
            await tasks.close(1.0)


async def test_a_sink_that_raises_is_logged_and_silences_nobody(
    redis: Redis, broker: Broker, logs: list[dict[str, Any]]
) -> None:
    heard: list[bytes] = []

    def crash(data: bytes) -> None:
        raise ValueError("on purpose")

    assert await broker.subscribe("bad", crash)
    assert await broker.subscribe("good", heard.append)
    await redis.publish("bad", b"x")
    await redis.publish("good", b"y")

    await until(lambda: heard == [b"y"])
    assert [event["channel"] for event in logs if event["event"] == "sink_failed"] == ["bad"]


async def test_we_hear_ourselves_every_second(broker: Broker) -> None:
    began = time.monotonic()
    for _ in range(2):
        await until(lambda: broker.heartbeat_age_s > 0.5)
        await until(lambda: broker.heartbeat_age_s < 0.5)

    assert time.monotonic() - began < 2 * 4


async def test_a_connection_that_hangs_is_a_gap_first_and_then_replaced(
    redis: Redis, broker: Broker, monkeypatch: Any
) -> None:
    """The silence is made at the socket: data arrives and is not handed on."""
    opened = 0
    gaps: list[float] = []
    loop = asyncio.get_running_loop()
    link, original = broker._link, Link.open
    assert link is not None
    silent: asyncio.Future[Any] = loop.create_future()

    async def receive() -> list[Any]:
        return await asyncio.shield(silent)

    async def count(redis: Redis) -> Link:
        nonlocal opened
        opened += 1
        return await original(redis)

    monkeypatch.setattr(Link, "open", count)
    began = loop.time()
    broker.on_gap(lambda: gaps.append(loop.time() - began))
    monkeypatch.setattr(link, "receive", receive)

    await until(lambda: opened == 1 and len(gaps) >= 2, 15)
    silent.cancel()

    assert 1.0 < gaps[0] < 8
    assert 2.5 < gaps[1] < 12
    assert broker._link is not link


async def test_a_flood_is_heard_without_loss_and_without_holding_the_loop(redis: Redis, broker: Broker) -> None:
    """The guard over every test fails this one where a callback uses more than 50 ms."""
    heard: list[bytes] = []
    assert await broker.subscribe("flood", heard.append)

    for _ in range(20):
        async with redis.pipeline(transaction=False) as pipeline:
            for _ in range(200):
                pipeline.publish("flood", b"x" * 200)
            await pipeline.execute()

    await until(lambda: len(heard) == 4000)
