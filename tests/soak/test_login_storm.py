"""The storm of log-ins of tests/attacks with a hundred of them."""

from pathlib import Path

import pytest
from tests.attacks.test_login_storm import live_through_a_storm
from tests.soak.conftest import Figure

STORM = 100


@pytest.mark.timeout(400)
def test_a_storm_of_a_hundred_log_ins(database_url: str, redis_url: str, tmp_path: Path, figure: Figure) -> None:
    figure(live_through_a_storm(tmp_path, database_url, redis_url, STORM))
