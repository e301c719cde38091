"""What a model's tokens cost: the offline data of genai-prices, and a file of one's own that beats it.

A model nobody knows a price of costs None, which is not 0. Nothing is ever fetched; the data is as old as its package.
"""

import asyncio
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import structlog
from genai_prices import Usage as PricedUsage
from genai_prices import __version__
from genai_prices.data_snapshot import DataSnapshot, get_snapshot
from genai_prices.types import StartDateConstraint
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from parley.agents.accounts import MILLION
from parley.agents.clients.port import Usage
from parley.core.clock import Clock

log = structlog.get_logger(__name__)

SAMPLE_TOKENS = 1000  # enough that a price of a hundredth of a dollar a million does not vanish


class OwnPrice(BaseModel):
    """Dollars for a million tokens, as the file gives them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)
    cached: Decimal | None = Field(default=None, ge=0)
    """Of prompt tokens the provider had cached; None: the price of input."""


@dataclass(frozen=True, slots=True)
class Quote:
    """What a call will cost, in whole micro-dollars, rounded up."""

    prompt_micro_usd: int
    micro_usd_per_million: int
    """For a million tokens of answer."""


class Prices:
    """The prices this worker knows; none until they are loaded."""

    def __init__(self, file: Path | None, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._own: Mapping[str, OwnPrice] = {}
        self._known: DataSnapshot | None = None
        self.newest: date | None = None
        """The day the newest price in the data began: the data is no older than this."""

    async def load(self) -> None:
        """Read the data, in a thread: it takes a quarter of a second. Raises ValueError for a bad file of one's own."""
        await asyncio.to_thread(self._load)
        log.info("prices_loaded", source=self.source, own=len(self._own))

    @property
    def source(self) -> str:
        """Where prices come from and of when they are, for people."""
        return f"genai-prices {__version__}, newest price of {self.newest}" if self.newest else "none"

    def cost_usd(self, model: str, usage: Usage, *, base_url: str | None = None) -> Decimal | None:
        """Return what a call cost, None for a model of unknown price."""
        own = self._own.get(model)
        if own is not None:
            cached = own.input if own.cached is None else own.cached
            fresh = max(0, usage.prompt_tokens - usage.cached_tokens)
            total = fresh * own.input + usage.cached_tokens * cached + usage.completion_tokens * own.output
            return total / MILLION
        if self._known is None:
            return None
        counted = PricedUsage(
            input_tokens=usage.prompt_tokens,
            # More cached than there were is a provider's slip the library refuses.
            cache_read_tokens=min(usage.cached_tokens, usage.prompt_tokens),
            output_tokens=usage.completion_tokens,
        )
        try:
            # By the provider's address: one's own server may run a model that has a price elsewhere, and is not that.
            return self._known.calc(counted, model, None, base_url, self._clock.now()).total_price
        except (LookupError, ValueError):
            return None

    def cost_micro_usd(self, model: str, usage: Usage, *, base_url: str | None = None) -> int | None:
        """Return the same in whole micro-dollars, rounded up: for budgets."""
        cost = self.cost_usd(model, usage, base_url=base_url)
        return None if cost is None else _round_up(cost * MILLION)

    def quote(self, model: str, prompt_tokens: int, *, base_url: str | None = None) -> Quote | None:
        """Return what a prompt of that length costs and what its answer will; None for a model of unknown price."""
        prompt = self.cost_usd(model, Usage(prompt_tokens, 0), base_url=base_url)
        whole = self.cost_usd(model, Usage(prompt_tokens, SAMPLE_TOKENS), base_url=base_url)
        if prompt is None or whole is None:
            return None
        return Quote(_round_up(prompt * MILLION), _round_up((whole - prompt) / SAMPLE_TOKENS * MILLION * MILLION))

    def _load(self) -> None:
        if self._file is not None:
            table = tomllib.loads(self._file.read_text(encoding="utf-8"))
            self._own = TypeAdapter(dict[str, OwnPrice]).validate_python(table)
        known = get_snapshot()
        today = self._clock.now().date()
        self.newest = max((start for start in _starts(known) if start <= today), default=None)
        self._known = known


def _starts(data: DataSnapshot) -> Iterator[date]:
    """Say when prices began: the data tells no date of its own."""
    for provider in data.providers:
        for model in provider.models:
            for price in model.prices if isinstance(model.prices, list) else ():
                if isinstance(price.constraint, StartDateConstraint):
                    yield price.constraint.start_date


def _round_up(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_CEILING))
