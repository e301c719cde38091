"""What a call of a model cost: its report in tokens and money, as it goes into the books. Pure; keeps no book."""

import math
from collections.abc import Callable

from parley.agents.clients.attempts import AttemptReport
from parley.agents.clients.port import (
    AUTH,
    BUSY,
    CONNECT_TIMEOUT,
    REDIRECTED,
    REFUSED,
    UNREACHABLE,
    ModelRequest,
    Usage,
)
from parley.agents.counting import count_request
from parley.agents.interface import Attempt

CHARACTERS = 3.5  # of a token; a cut call tells only how many characters came, and most are of the Latin kind
# Nothing was computed, so nothing is charged for: a provider that is away must not use up anybody's budget.
NOT_SERVED = frozenset({UNREACHABLE, CONNECT_TIMEOUT, AUTH, BUSY, REFUSED, REDIRECTED})
Price = Callable[[str, str, Usage], float | None]
"""Of a provider's model and its tokens, in US dollars; None for a model whose price is not known."""


def no_price(_: str, __: str, ___: Usage) -> None:
    """Know no price."""


def estimate_tokens(characters: int, pieces: int) -> int:
    """Return about how many tokens came: by the pieces where a character is more than Latin ones are."""
    return max(pieces, math.ceil(characters / CHARACTERS))


def book(report: AttemptReport, request: ModelRequest, price: Price) -> Attempt:
    """Return the attempt; what the provider did not count is estimated and marked so."""
    was_served = not report.is_cached and not (report.first_token_s is None and report.outcome in NOT_SERVED)
    is_estimated = report.usage is None and was_served
    if is_estimated:
        used = Usage(count_request(request), estimate_tokens(report.characters, report.pieces))
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
        cost_usd=0.0 if report.is_cached else price(report.provider, report.model, used),
        is_cached=report.is_cached,
        cached_tokens=used.cached_tokens,
    )
