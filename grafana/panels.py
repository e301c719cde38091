"""What a dashboard is made of: queries, panels, rows; and how Grafana's classic model writes them. Draws none itself.

Five files of JSON say the same thing in every panel; here a panel is what is its own. Positions follow from widths.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
HERE = 'instance=~"$instance"'
QUANTILES = (0.5, 0.95, 0.99)
# What lasts as long as it is watched or waited for says nothing about how fast we answer.
QUICK_HANDLERS = 'handler!~".*/(stream|send|stop|complete)"'

Queries = Mapping[str, str]
"""Expressions by the legend of their lines; `{{label}}` stands for a label's value."""


def select(metric: str, *matchers: str) -> str:
    """Return the series of a metric on the machines that were chosen."""
    return f"{metric}{{{', '.join((HERE, *matchers))}}}"


def total(metric: str, by: str = "", how: str = "sum") -> str:
    """Return a gauge over all machines, by a label."""
    return f"{how}{_by(by)}({select(metric)})"


def rate(metric: str, by: str = "", *matchers: str) -> str:
    """Return how often a second, by labels."""
    return f"sum{_by(by)}(rate({select(metric, *matchers)}[$__rate_interval]))"


def increase(metric: str, by: str = "", over: str = "$__range") -> str:
    """Return how often over a time."""
    return f"sum{_by(by)}(increase({select(metric)}[{over}]))"


def or_none(expression: str, label: str) -> str:
    """Return the same, and a zero named `none` where nothing has happened yet: an empty panel looks broken."""
    return f'{expression} or on () label_replace(vector(0), "{label}", "none", "", "")'


def quantile(q: float, metric: str, by: str = "", *matchers: str) -> str:
    """Return a quantile of a histogram, by labels."""
    labels = ", ".join(filter(None, ["le", by]))
    return f"histogram_quantile({q:g}, {rate(f'{metric}_bucket', labels, *matchers)})"


def quantiles(metric: str) -> Queries:
    """Return the usual three."""
    return {f"p{q * 100:g}": quantile(q, metric) for q in QUANTILES}


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""


@dataclass(frozen=True)
class Panel:
    """One picture, or one number where `is_number`; lines or colours change at `warn` and `bad`."""

    title: str
    about: str
    unit: str
    queries: Queries
    warn: float | None = None
    bad: float | None = None
    is_number: bool = False
    is_stacked: bool = False
    width: int = 8
    names: Mapping[int, str] | None = None
    """Words for values."""

    @property
    def height(self) -> int:
        return 4 if self.is_number else 8

    def drawn(self, number: int, x: int, y: int) -> dict[str, Any]:
        """Return it as Grafana reads it."""
        return {
            "id": number,
            "type": "stat" if self.is_number else "timeseries",
            "title": self.title,
            "description": self.about,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [
                {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
                for place, (legend, expr) in enumerate(self.queries.items())
            ],
            "fieldConfig": {"defaults": self._field(), "overrides": []},
            "options": _NUMBER_OPTIONS if self.is_number else _LINES_OPTIONS,
        }

    def _field(self) -> dict[str, Any]:
        steps = [("green", None), ("yellow", self.warn), ("red", self.bad)]
        kept = [{"color": color, "value": value} for color, value in steps if color == "green" or value is not None]
        field: dict[str, Any] = {"unit": self.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": kept}}
        if self.names:
            named = {str(value): {"text": text} for value, text in self.names.items()}
            field["mappings"] = [{"type": "value", "options": named}]
        if not self.is_number:
            custom: dict[str, Any] = {"fillOpacity": 10, "showPoints": "never"}
            if self.warn is not None or self.bad is not None:
                custom["thresholdsStyle"] = {"mode": "dashed"}
            if self.is_stacked:
                custom["stacking"] = {"mode": "normal", "group": "A"}
            field["custom"] = custom
        return field


_NUMBER_OPTIONS = {
    "colorMode": "background",
    "graphMode": "area",
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
}
_LINES_OPTIONS = {
    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
    "tooltip": {"mode": "multi", "sort": "desc"},
}


@dataclass(frozen=True)
class Dashboard:
    """One page: rows of panels under headings."""

    name: str
    title: str
    about: str
    rows: Mapping[str, Sequence[Panel]]

    def drawn(self) -> dict[str, Any]:
        """Return it as Grafana reads it."""
        return {
            "uid": f"parley-{self.name}",
            "title": f"Parley: {self.title}",
            "description": self.about,
            "tags": ["parley"],
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "annotations": {"list": []},
            "links": [
                {"type": "dashboards", "title": "Parley", "tags": ["parley"], "keepTime": True, "includeVars": True}
            ],
            "templating": {"list": _VARIABLES},
            "panels": list(self._panels()),
        }

    def _panels(self) -> Iterator[dict[str, Any]]:
        number = y = 0
        for heading, panels in self.rows.items():
            number += 1
            place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
            yield {"id": number, "type": "row", "title": heading, "collapsed": False, "gridPos": place, "panels": []}
            x, y, tallest = 0, y + 1, 0
            for panel in panels:
                if x + panel.width > COLUMNS:
                    x, y, tallest = 0, y + tallest, 0
                number += 1
                yield panel.drawn(number, x, y)
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest


_VARIABLES = [
    {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1},
    {
        "name": "instance",
        "label": "Machine",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": "label_values(app_workers, instance)", "refId": "instance"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    },
]


def number(title: str, about: str, unit: str, expr: str, **more: Any) -> Panel:
    """Return a panel of one number; six of them fill a row."""
    return Panel(title, about, unit, {title: expr}, is_number=True, width=4, **more)
