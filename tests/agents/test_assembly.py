"""The assembled agents of the service: one path for every reply, with prices of the place that is asked."""

import asyncio

from tests.conftest import Start

from parley.agents.clients.port import Usage
from parley.agents.prices import Prices
from parley.agents.tariff import Tariff
from parley.core.clock import SystemClock


async def test_the_service_asks_budgets_and_keeps_their_holds(start: Start) -> None:
    async with start() as service:
        names = {task.get_name() for task in asyncio.all_tasks()}
        runner = service.parts["agents"]

        assert {"keep budgets", "book calls", "renew leases"} <= names
        assert runner.record == service.parts["model_calls"].record  # type: ignore[attr-defined]


def test_a_model_has_the_price_of_the_place_where_it_is_asked() -> None:
    prices = Prices(None, SystemClock())
    asyncio.run(prices.load())
    tariff = Tariff(prices, {"main": "http://10.0.0.1:8000/v1", "openai": "https://api.openai.com/v1"})
    used = Usage(1_000_000, 1_000_000)

    assert tariff.price("main", "gpt-5-mini", used) is None
    assert tariff.quote("main", "gpt-5-mini", 1000) is None
    assert tariff.price("openai", "gpt-5-mini", used)
    assert tariff.quote("openai", "gpt-5-mini", 1000)
