"""What a call costs at the place where it is asked: calls know their provider by name, prices by its address."""

from collections.abc import Mapping

from parley.agents.clients.port import Usage
from parley.agents.prices import Prices, Quote


class Tariff:
    """The prices of the providers that are set up."""

    def __init__(self, prices: Prices, addresses: Mapping[str, str]) -> None:
        self._prices = prices
        self._addresses = addresses

    def price(self, provider: str, model: str, usage: Usage) -> float | None:
        """Return what a call cost, in dollars; see booking.Price."""
        cost = self._prices.cost_usd(model, usage, base_url=self._addresses.get(provider))
        return None if cost is None else float(cost)

    def quote(self, provider: str, model: str, prompt_tokens: int) -> Quote | None:
        """Return what a call will cost; None for a model of unknown price."""
        return self._prices.quote(model, prompt_tokens, base_url=self._addresses.get(provider))
