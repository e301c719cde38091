"""The OpenAPI document against the service, with 50 examples of either kind for every operation and role."""

from collections.abc import Callable

import pytest
from tests.attacks.test_schemathesis import check_the_document, without_dice

from parley.settings import Settings

EXAMPLES = 50


@without_dice
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("role", ["guest", "user", "admin"])
def test_what_the_document_describes_is_what_the_service_does(
    settings_with: Callable[..., Settings], database_url: str, role: str
) -> None:
    check_the_document(settings_with(PARLEY_CHAT_LOOP_LAG_S="30"), database_url, role, EXAMPLES)
