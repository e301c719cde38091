"""The reader of expressions: the tests of rules and dashboards see what it sees."""

import pytest
from tests.ops.promql import Selector, grouped, selectors


@pytest.mark.parametrize(
    ("expression", "metrics"),
    [
        ("up", {"up": set()}),
        (
            'sum by (job, le) (rate(a_total{status="5xx", handler!~"/x.*"}[5m])) > 0.5',
            {"a_total": {"status", "handler"}},
        ),
        ("time() - max(a_seconds) > 180", {"a_seconds": set()}),
        ("a and on (x) b unless c offset 5m or vector(0)", {"a": set(), "b": set(), "c": set()}),
        ("rule:a:rate5m > 14.4 * 0.01", {"rule:a:rate5m": set()}),
        ("histogram_quantile(0.95, sum by (le) (rate(a_bucket[$__rate_interval])))", {"a_bucket": set()}),
        ('a{b=~"c{d}"} / (a > 0)', {"a": {"b"}}),
        ("1e3 * count(a == 2)", {"a": set()}),
    ],
)
def test_metrics_and_matchers_are_found(expression: str, metrics: dict[str, set[str]]) -> None:
    found: dict[str, set[str]] = {}
    for selector in selectors(expression):
        found.setdefault(selector.metric, set()).update(selector.labels)

    assert found == metrics


def test_labels_to_group_by_are_found() -> None:
    assert grouped("sum by (a, b) (x) / on (c) group_left (d) y") == {"a", "b", "c", "d"}
    assert list(selectors("sum by (a) (x)")) == [Selector("x", frozenset())]
