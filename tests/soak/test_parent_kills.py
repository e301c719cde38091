"""15 times kill -9 of the parent under load, then a start on the same folder and port: all is gone but the data."""

import asyncio
import random
import time
from collections.abc import Callable

import pytest
from tests.soak.conftest import CHEAP, Figure
from tests.soak.load import Account, accepted_once_more, cannot_log_in, steady_load
from tests.story.serving import Serving, wait_until

KILLS = 15
GONE_S = 2.0
ALIVE_S = (0.2, 1.5)
Serve = Callable[..., Serving]


async def load_until_the_kill(serving: Serving, account: Account, alive_s: float, seed: int) -> float:
    """Return the seconds until nothing was left."""
    async with steady_load(account, seed):
        await asyncio.sleep(alive_s)
        serving.processes()
        serving.parent.kill()
        serving.parent.wait()
        began = time.monotonic()
        await asyncio.to_thread(wait_until, lambda: not serving.left())
        return time.monotonic() - began


@pytest.mark.timeout(400)
def test_kills_of_the_parent_leave_nothing_and_lose_nothing(serve: Serve, figure: Figure, seed: int) -> None:
    chance = random.Random(seed)
    account, port = Account(), "0"
    gone, ready = [], []
    for _ in range(KILLS):
        serving = serve("--workers", "4", "--port", port, environ=CHEAP)
        ready.append(serving.wait_ready())
        account.port, port = serving.port, str(serving.port)
        gone.append(
            asyncio.run(load_until_the_kill(serving, account, chance.uniform(*ALIVE_S), chance.randrange(9999)))
        )
    serving = serve("--workers", "4", "--port", port, environ=CHEAP)
    ready.append(serving.wait_ready())
    lost = asyncio.run(cannot_log_in(serving.port, account.registered))
    again = asyncio.run(accepted_once_more(serving.port, [token for token, times in account.accepted.items() if times]))
    figure(f"everything gone after {sorted(gone)[KILLS // 2]:.2f} s (median), {max(gone):.2f} s (longest)")
    figure(f"taken over in {sorted(ready)[KILLS // 2]:.2f} s (median), {max(ready):.2f} s (longest)")
    figure(f"{len(account.registered)} accounts, {len(lost)} lost; {len(again)} refresh tokens taken again")

    assert lost == {}
    assert again == []
    assert account.exchanged_twice() == []
    assert account.odd == []
    assert max(gone) <= GONE_S
