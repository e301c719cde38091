"""The rows of event streams: flood, first token, how many at a steady pace, and what one token costs."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from tests.bench.stream_load import Seen, read_streams
from tests.bench.stream_servers import Server
from tests.bench.table import Row
from tests.bench.token_upstream import question
from tests.bench.wire import quantile, request

Ask = Callable[[Server, int, int, int], Sequence[bytes]]
"""Return so many requests for (server, count, tokens, per second)."""

AT_ONCE, FLOOD_TOKENS = 64, 200
FIRST_STREAMS, FIRST_TOKENS = 16, 100
UPSTREAM_MS = 20.0  # to its first token, at 50/s
PACE_PER_S, PACED_TOKENS = 50, 200
MOST_DELAY_MS = 250.0
FEW, MANY = 10, 300
STEPS = {
    "tutorial": (20, 30, 40, 60, 80, 100, 120),
    "Parley": (20, 40, 60, 80, 100, 150, 200, 250, 300, 350, 400),
}
REST_S = 0.3
RAMP_S = 3.0  # of what is measured at a steady pace


class Size(NamedTuple):
    """How often."""

    rounds: int
    flood_streams: int
    first_streams: int
    ladders: int
    pairs: int


FULL, QUICK = Size(5, 192, 64, 2, 3), Size(2, 128, 64, 1, 1)


class Measured(NamedTuple):
    """A round, and the CPU time the server took for it."""

    seen: Seen
    cpu_s: float


def asking(access_tokens: Sequence[str]) -> Ask:
    """Return what makes requests: those to Parley carry a caller each, in turns."""

    def ask(server: Server, count: int, tokens: int, per_s: int) -> Sequence[bytes]:
        body = {"message": question(tokens, per_s)}
        if server.name != "Parley":
            return [request("POST", "/chat/stream", body=body)] * count
        callers = (access_tokens[number % len(access_tokens)] for number in range(count))
        return [request("POST", "/chat/stream", body=body, token=token) for token in callers]

    return ask


async def flood(servers: Sequence[Server], ask: Ask, size: Size) -> Sequence[Row]:
    """Return tokens a second, as fast as possible."""
    rates: dict[str, list[float]] = {server.name: [] for server in servers}
    costs: dict[str, list[float]] = {server.name: [] for server in servers}
    for number in range(-1, size.rounds):
        for server in servers:
            streams = AT_ONCE if number < 0 else size.flood_streams
            found = await _measure(server, ask(server, streams, FLOOD_TOKENS, 0), FLOOD_TOKENS, at_once=AT_ONCE)
            if number >= 0:  # the first round warms up
                rates[server.name].append(found.seen.tokens / found.seen.took_s)
                costs[server.name].append(found.seen.tokens / found.cpu_s if found.cpu_s else 0.0)
    what = f"flood, {AT_ONCE} streams of {FLOOD_TOKENS} tokens"
    return [
        *(Row(f"{what}: {name}", values, "tokens/s") for name, values in rates.items()),
        *_ratios(what, rates),
        *_ratios(f"{what}, per CPU-s", costs),
    ]


async def first_token(servers: Sequence[Server], ask: Ask, size: Size) -> Sequence[Row]:
    """Return what a server adds to the provider's own time, at the median."""
    added: dict[str, list[float]] = {server.name: [] for server in servers}
    for _ in range(size.rounds):
        for server in servers:
            requests = ask(server, size.first_streams, FIRST_TOKENS, PACE_PER_S)
            found = await _measure(server, requests, FIRST_TOKENS, at_once=FIRST_STREAMS)
            added[server.name].append(quantile(sorted(found.seen.first_ms), 0.5) - UPSTREAM_MS)
    what = f"first token, {FIRST_STREAMS} streams, above the provider's, p50"
    return [*(Row(f"{what}: {name}", values, "ms") for name, values in added.items()), *_ratios(what, added)]


async def ladder(servers: Sequence[Server], ask: Ask, size: Size) -> Sequence[Row]:
    """Return how many streams keep the pace, from one step up to the first that fails twice."""
    most: dict[str, list[float]] = {server.name: [] for server in servers if server.name in STEPS}
    steps: dict[tuple[str, int], list[float]] = {}
    for _ in range(size.ladders):
        for server in servers:
            if server.name in most:
                most[server.name].append(await _climb(server, ask, steps))
    what = f"streams of {PACE_PER_S} tokens/s with p99 <= {MOST_DELAY_MS:.0f} ms"
    return [
        *(Row(f"{what}: {name}", values, "streams") for name, values in most.items()),
        *(Row(f"  p99 at {count}: {name}", values, "ms") for (name, count), values in steps.items()),
        *_ratios(what, most),
    ]


async def _climb(server: Server, ask: Ask, steps: dict[tuple[str, int], list[float]]) -> float:
    reached = 0
    for count in STEPS[server.name]:
        for _ in range(2):  # a busy neighbour is no verdict
            requests = ask(server, count, PACED_TOKENS, PACE_PER_S)
            seen = (await _measure(server, requests, PACED_TOKENS, at_once=count, may_fail=True)).seen
            p99_ms = quantile(sorted(seen.delays_ms), 0.99) if seen.delays_ms else float("inf")
            steps.setdefault((server.name, count), []).append(p99_ms)
            holds = p99_ms <= MOST_DELAY_MS and not seen.short
            if holds:
                break
        if not holds:
            break
        reached = count
    return float(reached)


async def cost(server: Server, ask: Ask, size: Size) -> Sequence[Row]:
    """Return what a token costs with many streams and with few, in pairs; the set-up of the streams is in it."""
    figures: dict[int, list[float]] = {FEW: [], MANY: []}
    for _ in range(size.pairs):
        for count, values in figures.items():
            requests = ask(server, count, PACED_TOKENS, PACE_PER_S)
            found = await _measure(server, requests, PACED_TOKENS, at_once=count, over_s=RAMP_S)
            values.append(found.cpu_s / found.seen.tokens * 1e6)
    what = "CPU per token"
    return [
        *(Row(f"{what} at {count} streams: {server.name}", values, "us") for count, values in figures.items()),
        Row(f"{what}: {MANY} / {FEW} streams", [m / f for f, m in zip(*figures.values(), strict=True)], "x"),
    ]


async def _measure(
    server: Server, requests: Sequence[bytes], tokens: int, *, at_once: int, over_s: float = 0.0, may_fail: bool = False
) -> Measured:
    await asyncio.sleep(REST_S)
    before = server.cpu_s()
    seen = await read_streams(server.port, requests, tokens, at_once=at_once, over_s=over_s)
    cpu_s = server.cpu_s() - before
    if seen.short and not may_fail:  # worth knowing, and no reason to throw the other rows away
        print(f"{server.name}: {seen.short} streams of {len(requests)} were short {seen.refusal!r}", file=sys.stderr)
    return Measured(seen, cpu_s)


def _ratios(what: str, figures: Mapping[str, Sequence[float]]) -> list[Row]:
    ours = figures["Parley"]
    return [
        Row(f"{what}: Parley / {name}", [mine / other for mine, other in zip(ours, others, strict=True)], "x")
        for name, others in figures.items()
        if name != "Parley" and median(others)
    ]
