"""2,000 races of five for one refresh token, over four workers: one wins each, and the winner's session goes on."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable

import pytest
from tests.bench.wire import Connection, request
from tests.soak.conftest import CHEAP, Figure
from tests.soak.load import PASSWORD
from tests.story.serving import Serving

RACES, RUNNERS, CHAINS = 2_000, 5, 4
Serve = Callable[..., Serving]


async def race_on(port: int, races: int, losers: Counter[str]) -> list[int]:
    """Return how many won each race for the token of the race before."""
    connections = [await Connection.open(port) for _ in range(RUNNERS)]
    body = {"email": f"{os.urandom(8).hex()}@shop.example", "password": PASSWORD}
    token = (await connections[0].ask(request("POST", "/auth/register", body=body))).json()["refresh_token"]
    winners = []
    for _ in range(races):
        sent = request("POST", "/auth/refresh", body={"refresh_token": token})
        answers = await asyncio.gather(*(connection.ask(sent) for connection in connections))
        won = [answer for answer in answers if answer.status == 200]
        losers.update(f"{answer.status} {answer.json()['error']['code']}" for answer in answers if answer.status != 200)
        winners.append(len(won))
        if not won:
            break
        token = won[0].json()["refresh_token"]
    for connection in connections:
        await connection.close()
    return winners


async def race(port: int, losers: Counter[str]) -> list[int]:
    chains = await asyncio.gather(*(race_on(port, RACES // CHAINS, losers) for _ in range(CHAINS)))
    return [winners for chain in chains for winners in chain]


@pytest.mark.timeout(300)
def test_each_race_for_a_refresh_token_has_one_winner(serve: Serve, figure: Figure) -> None:
    serving = serve("--workers", "4", environ=CHEAP)
    serving.wait_ready()
    losers = Counter[str]()
    began = time.monotonic()
    winners = asyncio.run(race(serving.port, losers))
    took = time.monotonic() - began
    figure(
        f"{len(winners)} races of {RUNNERS} in {took:.0f} s, winners a race: {dict(Counter(winners))}, {dict(losers)}"
    )

    assert Counter(winners) == {1: RACES}
    assert set(losers) == {"401 refresh_superseded"}
