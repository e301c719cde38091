"""Ours and the reference by turns, so that what else the machine does meets both."""

from collections.abc import Sequence
from typing import NamedTuple

from tests.bench.servers import Server
from tests.bench.table import Row
from tests.bench.wire import Run, pump, quantile, request

CONNECTIONS = 16
PAIRS = 7
RUN_S = 0.8
WARM_UP_S = 0.5


class Question(NamedTuple):
    """What both servers are asked; each connection to ours may carry a caller of its own."""

    name: str
    to_ours: Sequence[bytes]
    to_bare: bytes
    status: int


def questions(access_tokens: Sequence[str]) -> list[Question]:
    """Return what is asked: a probe, a signed-in caller, a body that is refused."""
    live, wrong = request("GET", "/health/live"), request("POST", "/auth/refresh", body={"refresh_token": 5})
    signed_in = [request("GET", "/auth/me", token=token) for token in access_tokens]
    return [
        Question("GET /health/live", [live] * CONNECTIONS, live, 200),
        Question("GET /auth/me", signed_in, signed_in[0], 200),
        Question("POST /auth/refresh, 422", [wrong] * CONNECTIONS, wrong, 422),
    ]


async def compare(question: Question, ours: Server, bare: Server) -> list[Row]:
    """Return the rows of one question."""
    name = question.name
    to_bare = [question.to_bare] * CONNECTIONS
    for server, sent in ((ours, question.to_ours), (bare, to_bare)):
        await pump(server.port, sent, question.status, WARM_UP_S)
    rates: list[tuple[float, float]] = []
    costs: list[tuple[float, float]] = []
    runs: list[Run] = []
    for _ in range(PAIRS):
        ours_run, ours_cost_us = await _measure(ours, question.to_ours, question.status)
        bare_run, bare_cost_us = await _measure(bare, to_bare, question.status)
        runs.append(ours_run)
        rates.append((ours_run.per_s, bare_run.per_s))
        if ours_cost_us is not None and bare_cost_us is not None:
            costs.append((ours_cost_us, bare_cost_us))
    rows = [
        Row(f"{name}: ours / bare, requests per second", [o / b for o, b in rates], "x"),
        Row(f"{name}: ours", [o for o, _ in rates], "/s"),
        Row(f"{name}: bare", [b for _, b in rates], "/s"),
    ]
    if costs:
        rows.append(Row(f"{name}: CPU of the worker, ours - bare", [o - b for o, b in costs], "us"))
        rows.append(Row(f"{name}: CPU of the worker, ours", [o for o, _ in costs], "us"))
    for share in (0.5, 0.99):
        figures = [quantile(run.latencies_ms, share) for run in runs]
        rows.append(Row(f"{name}: ours p{share * 100:.0f}, {CONNECTIONS} at once", figures, "ms"))
    return rows


async def _measure(server: Server, sent: Sequence[bytes], status: int) -> tuple[Run, float | None]:
    """Return a run and the worker's CPU time a request, in microseconds."""
    before = server.cpu_s()
    run = await pump(server.port, sent, status, RUN_S)
    after = server.cpu_s()
    if run.odd:
        raise SystemExit(f"{run.odd} of {len(run.latencies_ms)} answers were not {status}")
    if before is None or after is None:
        return run, None
    return run, (after - before) / len(run.latencies_ms) * 1e6
