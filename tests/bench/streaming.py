"""Runs as `python -m tests.bench.streaming [--quick] [ROW...]`: streaming beside the tutorial's and a byte relay's.

Parley's path is the whole one: sign-in, limits, PostgreSQL, the log in Redis, fan-out. The servers have a core of
their own; everything else shares the other.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop
from tests.bench import socket_rows, stream_rows
from tests.bench.people import sign_up
from tests.bench.plot import write_plot
from tests.bench.servers import CORES, pin
from tests.bench.stream_rows import FULL, QUICK, Size
from tests.bench.stream_servers import Server, parley, provider, reference, references
from tests.bench.table import Row, show

PEOPLE = 32
OUTPUT = Path("build/bench")


def measure(*, is_quick: bool, only: Sequence[str] = ()) -> list[Row]:
    """Measure everything, or the rows named."""
    size = QUICK if is_quick else FULL
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as name, provider() as upstream:
        place = Path(name).resolve()
        place.chmod(0o711)  # root's PostgreSQL runs as another user
        pin(os.getpid(), CORES[:1])
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            with parley(place / "one", upstream) as (server, database_url), references(upstream) as others:
                rows += runner.run(_streams([*others, server], size, only))
                with reference("handshakes", upstream) as bare:
                    rows += runner.run(_alone(server, bare, database_url, only))
            if not only or "fanout" in only:
                with (
                    parley(place / "two", upstream, workers=2) as (server, _),
                    reference("broadcast", upstream) as other,
                ):
                    rows += runner.run(_fan_out(server, other, size))
        pin(os.getpid(), CORES)
    return rows


async def _streams(servers: Sequence[Server], size: Size, only: Sequence[str]) -> list[Row]:
    ask = stream_rows.asking([person.access_token for person in await sign_up(servers[-1].port, PEOPLE)])
    rows: list[Row] = []
    if not only or "flood" in only:
        rows += await stream_rows.flood(servers, ask, size)
    if not only or "first" in only:
        rows += await stream_rows.first_token(servers, ask, size)
    if not only or "cost" in only:
        rows += await stream_rows.cost(servers[-1], ask, size)
    if not only or "ladder" in only:
        rows += await stream_rows.ladder(servers, ask, size)
    return rows


async def _alone(server: Server, bare: Server, database_url: str, only: Sequence[str]) -> list[Row]:
    if only and "joins" not in only:
        return []
    return await socket_rows.joins(server, bare, await sign_up(server.port, PEOPLE), database_url)


async def _fan_out(server: Server, other: Server, size: Size) -> list[Row]:
    return await socket_rows.fan_out(server, other, (await sign_up(server.port, 1))[0], size.rounds)


def end_on_sigterm() -> None:
    """Let everything that was started end as well."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def main() -> None:
    """Print the table and write the plot."""
    parser = argparse.ArgumentParser(prog="tests.bench.streaming", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("only", nargs="*", help="flood first cost ladder joins fanout")
    arguments = parser.parse_args()
    end_on_sigterm()
    rows = measure(is_quick=arguments.quick, only=arguments.only)
    show(rows)
    print(f"plot: {write_plot(OUTPUT, rows)}")


if __name__ == "__main__":
    main()
