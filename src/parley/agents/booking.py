"""What a call of a model cost: its report in tokens and money, as it goes into the books. Pure; keeps no book."""

import math
from collections.abc import Callable

from parley.agents.clients.attempts import AttemptReport
from parley.agents.clients.port import ModelRequest, Usage
from parley.agents.counting import count_request
from parley.agents.interface import Attempt

CHARACTERS = 3.5  # of a token; a cut call tells only how many characters came, and most are of the Latin kind
Price = Callable[[str, Usage], float | None]
"""Of a model's tokens in US dollars; None for a model whose price is not known."""


def no_price(_: str, __: Usage) -> None:
    """Know no price."""


def book(report: AttemptReport, request: ModelRequest, price: Price) -> Attempt:
    """Return the attempt; what the provider did not count is estimated and marked so."""
    is_estimated = report.usage is None and not report.is_cached
    if is_estimated:
        used = Usage(count_request(request), math.ceil(report.characters / CHARACTERS))
    else:
        used = report.usage or Usage(0, 0)
    return Attempt(
        model=report.model,
        outcome=report.outcome,
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        is_estimated=is_estimated,
        first_token_s=report.first_token_s,
        total_s=report.total_s,
        cost_usd=0.0 if report.is_cached else price(report.model, used),
    )
