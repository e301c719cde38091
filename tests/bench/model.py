"""Runs as `python -m tests.bench.model`: tokens/s of our client, of the SDK's typed stream, and of its raw bytes.

One upstream on the last core, one reader on the first; the ways take turns, so that a busy machine is busy for all.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import uvloop
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from tests.bench.servers import CORES, pin
from tests.bench.table import Row, show

from parley.agents.clients.openai import OpenAIClient, open_openai
from parley.agents.clients.port import Finish, ModelRequest, TextDelta, Usage
from parley.agents.settings import AgentsSettings
from parley.core.clock import SystemClock

TOKENS = 10_000
ROUNDS = 9
TARGET = 6.0  # issue 3, number 5
QUESTION = [{"role": "user", "content": "Hello?"}]


class Way(NamedTuple):
    """One way to read an answer; returns how many tokens it saw."""

    name: str
    read: Callable[[], Awaitable[int]]


def ways(openai: AsyncOpenAI, settings: AgentsSettings, transport: str) -> list[Way]:
    """Return the three ways on one client."""
    client = OpenAIClient(openai, settings, SystemClock())
    create: Any = openai.chat.completions.create
    stream: Any = openai.chat.completions.with_streaming_response.create
    options = {"model": "bench", "messages": QUESTION, "stream": True, "stream_options": {"include_usage": True}}

    async def ours() -> int:
        seen = 0
        async with client.stream(ModelRequest("bench", QUESTION)) as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, TextDelta) and event.text:
                        seen += 1
        assert event == Finish("stop", Usage(10, TOKENS))
        return seen

    async def typed() -> int:
        seen = 0
        async for chunk in await create(**options):
            if chunk.choices and chunk.choices[0].delta.content:
                seen += 1
        return seen

    async def raw() -> int:
        size = 0
        async with stream(**options) as response:
            async for data in response.iter_bytes():
                size += len(data)
        assert size > TOKENS
        return TOKENS

    return [Way(f"{name}, {transport}", way) for name, way in (("ours", ours), ("typed", typed), ("raw bytes", raw))]


async def measure(url: str) -> list[Row]:
    """Let all ways take turns."""
    settings = AgentsSettings(base_url=url, max_pieces=2 * TOKENS)
    plain = AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=DefaultAsyncHttpxClient())
    async with open_openai(settings) as openai, plain:
        all_ways = [*ways(openai, settings, "aiohttp"), *ways(plain, settings, "httpx")]
        rates: dict[str, list[float]] = {way.name: [] for way in all_ways}
        for number in range(-1, ROUNDS):
            # Each begins once: whoever comes after the slow one finds a cooler machine.
            for way in all_ways[number % 6 :] + all_ways[: number % 6]:
                began = time.perf_counter()
                seen = await way.read()
                if seen != TOKENS:
                    raise ValueError(f"{way.name} saw {seen} of {TOKENS} tokens")
                if number >= 0:  # the first round warms up
                    rates[way.name].append(seen / (time.perf_counter() - began))
    return [*(Row(name, rates[name], "tokens/s") for name in rates), *_ratios(rates)]


def _ratios(rates: dict[str, list[float]]) -> Iterator[Row]:
    for transport in ("aiohttp", "httpx"):
        ours = rates[f"ours, {transport}"]
        for other in ("typed", "raw bytes"):
            pairs = zip(ours, rates[f"{other}, {transport}"], strict=True)
            yield Row(f"ours : {other}, {transport}", [mine / theirs for mine, theirs in pairs], "x")


@contextlib.contextmanager
def upstream() -> Iterator[str]:
    """Run the provider on the last core."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        argv = [sys.executable, "-m", "tests.bench.model_upstream", str(listener.fileno()), str(TOKENS)]
        process = subprocess.Popen(argv, pass_fds=[listener.fileno()])
        pin(process.pid, CORES[-1:])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            process.kill()
            process.wait()


def main() -> None:
    """Print the table."""
    with upstream() as url:
        pin(os.getpid(), CORES[:1])
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rows = runner.run(measure(url))
    show(rows)
    print(f"goal: ours at least {TARGET:.0f} times the typed stream, with aiohttp")


if __name__ == "__main__":
    main()
