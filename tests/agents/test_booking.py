"""What goes into the books for a call that was counted, cut, or never made."""

from dataclasses import replace

import pytest

from parley.agents.booking import book, no_price
from parley.agents.clients.attempts import AttemptReport
from parley.agents.clients.port import ModelRequest, Usage

REQUEST = ModelRequest("large", [{"role": "user", "content": "How do I return a jacket?"}])


def report(usage: Usage | None, characters: int = 350, *, is_cached: bool = False) -> AttemptReport:
    return AttemptReport("openai", "large", "ok", 0.1, 0.5, usage, characters, is_cached)


def test_what_the_provider_counted_is_booked() -> None:
    attempt = book(report(Usage(90, 20, 5)), REQUEST, lambda _, __, used: used.cached_tokens / 10)

    assert (attempt.prompt_tokens, attempt.completion_tokens, attempt.is_estimated) == (90, 20, False)
    assert attempt.cost_usd == 0.5


def test_what_it_did_not_count_is_estimated_and_marked() -> None:
    attempt = book(report(None), REQUEST, lambda _, __, used: used.completion_tokens / 100)

    assert (attempt.completion_tokens, attempt.is_estimated, attempt.cost_usd) == (100, True, 1.0)
    assert 5 < attempt.prompt_tokens < 20


def test_an_unknown_price_is_no_price_and_a_cached_answer_costs_nothing() -> None:
    assert book(report(Usage(1, 1)), REQUEST, no_price).cost_usd is None
    cached = book(report(None, is_cached=True), REQUEST, no_price)
    assert (cached.prompt_tokens, cached.completion_tokens, cached.is_estimated, cached.cost_usd) == (0, 0, False, 0.0)


def test_pieces_tell_more_where_characters_are_more_than_latin_ones() -> None:
    cut = replace(report(None, characters=40), outcome="cancelled", pieces=35)

    assert book(cut, REQUEST, no_price).completion_tokens == 35


@pytest.mark.parametrize(
    ("code", "is_free"), [("model_unreachable", True), ("model_busy", True), ("model_broken", False)]
)
def test_what_was_never_computed_is_not_charged_for(code: str, is_free: bool) -> None:
    refused = replace(report(None, characters=0), outcome=code, first_token_s=None)
    attempt = book(refused, REQUEST, no_price)

    assert (attempt.prompt_tokens == 0, attempt.is_estimated) == (is_free, not is_free)
    assert book(replace(refused, first_token_s=0.1), REQUEST, no_price).prompt_tokens
