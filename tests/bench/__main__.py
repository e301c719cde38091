"""`make bench`: the figures of the house and of the streaming path as paired ratios in one run, with their spread.

Prints one table and draws the streaming part of it.
"""

import argparse
import asyncio
import os
import tempfile
from pathlib import Path

import uvloop
from tests.bench import parts, streaming
from tests.bench.pairs import CONNECTIONS, compare, questions
from tests.bench.plot import write_plot
from tests.bench.servers import CORES, Server, bare, ours, pin
from tests.bench.storm import PASSWORD, login_storm
from tests.bench.table import Row, show
from tests.bench.wire import Connection, request
from tests.story.serving import Serving

STARTS = 5


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds of the streaming path")
    is_quick = parser.parse_args().quick
    streaming.end_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as name:
        place = Path(name).resolve()
        place.chmod(0o711)  # root's PostgreSQL runs as another user
        rows: list[Row] = []
        with ours(place) as (serving, our_server), bare() as bare_server:
            pin(os.getpid(), CORES[:1])
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                rows += runner.run(_over_http(serving, our_server, bare_server))
            pin(os.getpid(), CORES)
        rows.append(Row("start to ready, 2 workers, initialised folder", [_start(place) for _ in range(STARTS)], "s"))
    streamed = streaming.measure(is_quick=is_quick)
    show([*rows, *streamed])
    print(f"plot: {write_plot(streaming.OUTPUT, streamed)}")


async def _over_http(serving: Serving, our_server: Server, bare_server: Server) -> list[Row]:
    told = serving.told()
    rows: list[Row] = []
    for question in questions([await _signed_in(our_server.port) for _ in range(CONNECTIONS)]):
        rows += await compare(question, our_server, bare_server)
    rows += parts.tokens()
    rows += await parts.limits(told["redis_url"])
    rows += parts.log_lines()
    rows += await login_storm(our_server, told["database_url"])
    return rows


async def _signed_in(port: int) -> str:
    connection = await Connection.open(port)
    body = {"email": f"{os.urandom(6).hex()}@shop.example", "password": PASSWORD}
    answer = await connection.ask(request("POST", "/auth/register", body=body))
    await connection.close()
    return str(answer.json()["access_token"])


def _start(place: Path) -> float:
    serving = Serving(place, "--workers", "2")
    try:
        return serving.wait_ready()
    finally:
        serving.end()


if __name__ == "__main__":
    main()
