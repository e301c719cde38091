"""The tests of the widget's modules, with five times the rounds."""

import pytest
from tests.widget.test_node import needs_node, run_all


@needs_node
@pytest.mark.timeout(300)
def test_the_modules_of_the_widget_do_what_their_own_tests_say() -> None:
    run_all(PARLEY_WIDGET_TIMES="5")
