"""Prices: known offline, beaten by one's own file, and None where nobody knows."""

import asyncio
import time
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from parley.agents.clients.port import Usage
from parley.agents.prices import Prices, Quote
from parley.core.clock import SystemClock

OPENAI = "https://api.openai.com/v1"


def loaded(file: Path | None = None) -> Prices:
    prices = Prices(file, SystemClock())
    asyncio.run(prices.load())
    return prices


@pytest.fixture(scope="module")
def prices() -> Prices:
    return loaded()


def test_a_known_model_has_a_price(prices: Prices) -> None:
    cost = prices.cost_usd("gpt-5-mini", Usage(1_000_000, 1_000_000), base_url=OPENAI)

    assert cost is not None
    assert Decimal("0.1") < cost < 100


def test_cached_tokens_cost_less(prices: Prices) -> None:
    fresh = prices.cost_usd("gpt-5-mini", Usage(10_000, 0))
    cached = prices.cost_usd("gpt-5-mini", Usage(10_000, 0, cached_tokens=8_000))

    assert fresh is not None
    assert cached is not None
    assert 0 < cached < fresh


def test_more_cached_tokens_than_there_were_are_no_error(prices: Prices) -> None:
    assert prices.cost_usd("gpt-5-mini", Usage(10, 0, cached_tokens=50)) is not None


@pytest.mark.parametrize(
    ("model", "base_url"),
    [("parley-demo", None), ("", None), ("gpt-5-mini", "http://127.0.0.1:11434/v1"), ("\0}{'\n", OPENAI)],
)
def test_what_nobody_knows_costs_none_and_not_nothing(prices: Prices, model: str, base_url: str | None) -> None:
    assert prices.cost_usd(model, Usage(1000, 1000), base_url=base_url) is None
    assert prices.cost_micro_usd(model, Usage(1000, 1000), base_url=base_url) is None
    assert prices.quote(model, 1000, base_url=base_url) is None


def test_the_date_of_the_data_is_shown(prices: Prices) -> None:
    assert prices.newest is not None
    assert date(2026, 1, 1) <= prices.newest
    assert f"newest price of {prices.newest}" in prices.source


def test_a_quote_covers_what_the_call_will_cost(prices: Prices) -> None:
    for prompt, answer in ((0, 1), (1, 1), (777, 333), (250_000, 4096)):
        quote = prices.quote("gpt-5-mini", prompt)
        cost = prices.cost_micro_usd("gpt-5-mini", Usage(prompt, answer))
        assert quote is not None
        assert cost is not None
        reserved = quote.prompt_micro_usd + -(-answer * quote.micro_usd_per_million // 1_000_000)
        assert cost <= reserved <= cost + 2


def test_a_file_of_ones_own_beats_the_data(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(
        '["gpt-5-mini"]\ninput = 1.0\noutput = 3.0\n["parley-demo"]\ninput = 0.5\noutput = 2\ncached = 0.05'
    )
    prices = loaded(file)

    assert prices.cost_usd("gpt-5-mini", Usage(1_000_000, 1_000_000), base_url=OPENAI) == 4
    assert prices.cost_usd("parley-demo", Usage(1_000_000, 0, cached_tokens=1_000_000)) == Decimal("0.05")
    assert prices.cost_micro_usd("parley-demo", Usage(1, 1)) == 3
    assert prices.quote("parley-demo", 1000) == Quote(500, 2_000_000)


@pytest.mark.parametrize("text", ["[m]\ninput = 1", "[m]\ninput = -1\noutput = 1", "[m]\nimput = 1\noutput = 1", "m ="])
def test_a_bad_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)

    with pytest.raises(ValueError):
        loaded(file)


async def test_loading_holds_up_no_loop_and_nothing_is_known_before() -> None:
    prices = Prices(None, SystemClock())

    assert prices.cost_usd("gpt-5-mini", Usage(1, 1)) is None
    assert prices.source == "none"
    started = time.perf_counter()
    await prices.load()
    print(f"loaded in {(time.perf_counter() - started) * 1000:.0f} ms: {prices.source}")
    started = time.perf_counter()
    for _ in range(100):
        assert prices.cost_usd("gpt-5-mini", Usage(1234, 567), base_url=OPENAI)
    print(f"a cost takes {(time.perf_counter() - started) * 10_000:.0f} us")
