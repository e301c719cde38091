"""What traces cost a worker: CPU of a turn with a tool and of a plain request, with and without, in alternating rounds.

Run: python -m tests.bench.traces
"""

import asyncio
import statistics
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
from tests.bench.servers import Server, ours
from tests.fixtures.collector import collecting
from tests.story.chatting import ENVIRON, PASSWORD, Provider

ROUNDS = 5
TURNS, REQUESTS = 20, 100
QUESTION = "How do I return a jacket?"
Work = Callable[[httpx.AsyncClient], Awaitable[None]]


async def turns(http: httpx.AsyncClient) -> None:
    """Ask many questions at once; each calls a tool."""

    async def ask() -> None:
        answer = await http.post("/chat/stream", json={"message": QUESTION, "client_id": uuid.uuid4().hex})
        assert answer.text.rstrip().endswith("[DONE]"), answer.text[-200:]

    await asyncio.gather(*(ask() for _ in range(TURNS)))


async def requests(http: httpx.AsyncClient) -> None:
    for _ in range(REQUESTS):
        assert (await http.get("/auth/me")).status_code == 200


async def cpu_of(server: Server, http: httpx.AsyncClient, work: Work) -> float:
    """Return the CPU seconds of the worker for this, its sender's thread included."""
    before = server.cpu_s()
    await work(http)
    await asyncio.sleep(1.2)  # what waits is sent once a second
    after = server.cpu_s()
    assert before is not None
    assert after is not None
    return after - before


async def signed_in(port: int) -> httpx.AsyncClient:
    http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, verify=False)
    email = f"{uuid.uuid4().hex[:8]}@shop.example"
    made = await http.post("/auth/register", json={"email": email, "password": PASSWORD})
    http.headers["authorization"] = f"Bearer {made.json()['access_token']}"
    return http


async def compare(servers: list[Server]) -> None:
    clients = [await signed_in(server.port) for server in servers]
    for name, work, count in (("a turn", turns, TURNS), ("a request", requests, REQUESTS)):
        spent: list[list[float]] = [[], []]
        for _ in range(ROUNDS + 1):
            for which, (server, http) in enumerate(zip(servers, clients, strict=True)):
                spent[which].append(await cpu_of(server, http, work))
        ratios = [on / off for off, on in zip(spent[0][1:], spent[1][1:], strict=True)]
        off, on = (statistics.median(one[1:]) / count * 1000 for one in spent)  # the first round warms up
        print(f"{name}: {off:.2f} ms of CPU without traces, {on:.2f} ms with: {on / off:.2f}x")
        print(f"  rounds from {min(ratios):.2f}x to {max(ratios):.2f}x")
    for http in clients:
        await http.aclose()


def main() -> None:
    provider = Provider()
    environ = {**ENVIRON, "PARLEY_MODEL_BASE_URL": provider.url, "PARLEY_LOG_FORMAT": "json"}
    try:
        with ExitStack() as stack:
            collector = stack.enter_context(collecting())
            servers = []
            for more in ({}, {"PARLEY_OTLP_ENDPOINT": collector.url}):
                place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="parley-bench-")))
                servers.append(stack.enter_context(ours(place, **environ, **more))[1])
            asyncio.run(compare(servers))
            print(f"{len(collector.spans)} spans were taken")
    finally:
        provider.end()


if __name__ == "__main__":
    main()
