"""Grafana's dashboards: what the script draws, readable by Grafana, about metrics there are."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana.draw import FOLDER, files
from tests.ops.conftest import Told, needs_promtool
from tests.ops.promql import as_rules, grouped, promtool
from tests.ops.test_rules import RECORDED

NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
COLUMNS = 24
# What Grafana would put in their place.
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h", "$__interval": "15s", "$instance": ".*"}
UNITS = {"s", "percentunit", "none", "ops", "reqps", "bytes", "currencyUSD"}


def _read(name: str) -> Mapping[str, Any]:
    dashboard: Mapping[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return dashboard


def _panels(name: str) -> Iterator[Mapping[str, Any]]:
    return (panel for panel in _read(name)["panels"] if panel["type"] != "row")


def expressions() -> list[str]:
    """Return all expressions of all dashboards, as Prometheus would be asked."""
    found = [target["expr"] for name in NAMES for panel in _panels(name) for target in panel["targets"]]
    for variable, value in VARIABLES.items():
        found = [text.replace(variable, value) for text in found]
    return found


def test_the_files_are_what_the_script_draws() -> None:
    drawn = files()

    assert sorted(path.stem for path in drawn) == NAMES
    assert [path.name for path, text in drawn.items() if path.read_text() != text] == [], "run: python -m grafana.draw"


def test_the_dashboards_are_those_that_were_asked_for() -> None:
    assert NAMES == ["model", "service", "sockets", "stores", "streams"]


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_can_be_imported_anywhere(name: str) -> None:
    dashboard = _read(name)

    assert dashboard["uid"] == f"parley-{name}"
    assert len(dashboard["uid"]) <= 40
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "instance"]
    sources = {json.dumps(panel["datasource"]) for panel in _panels(name)}
    sources |= {json.dumps(target["datasource"]) for panel in _panels(name) for target in panel["targets"]}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}


@pytest.mark.parametrize("name", NAMES)
def test_panels_say_what_they_show(name: str) -> None:
    panels = list(_panels(name))

    assert all(panel["title"] and panel["description"].endswith((".", "0")) for panel in panels)
    assert {panel["fieldConfig"]["defaults"]["unit"] for panel in panels} <= UNITS
    assert len({panel["title"] for panel in panels if panel["type"] == "timeseries"}) == len(
        [panel for panel in panels if panel["type"] == "timeseries"]
    )


@pytest.mark.parametrize("name", NAMES)
def test_no_two_panels_lie_on_one_another(name: str) -> None:
    panels = _read(name)["panels"]
    places = [panel["gridPos"] for panel in panels]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(place["x"] + place["w"] <= COLUMNS for place in places)
    overlapping = [
        (one, other)
        for one, other in combinations(places, 2)
        if one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    ]
    assert overlapping == []


@needs_promtool
def test_every_expression_is_one(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(as_rules(expressions()))
    checked = promtool("check", "rules", tmp_path / "rules.yml")

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(expressions())} rules found" in checked.stdout
    assert not [text for text in expressions() if "$" in text]


async def test_panels_ask_for_metrics_that_a_live_scrape_has(told: Told) -> None:
    assert expressions()
    assert {lack for text in expressions() for lack in told.lacks(text, RECORDED)} == set()


@pytest.mark.parametrize("name", NAMES)
def test_legends_name_labels_that_are_kept(name: str) -> None:
    for panel in _panels(name):
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert named <= grouped(target["expr"]), target


def test_grafana_finds_them() -> None:
    provisioning = FOLDER.parent / "provisioning"
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((provisioning / "dashboards" / "parley.yml").read_text())["providers"]

    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert (provider["type"], provider["options"]) == ("file", {"path": "/etc/grafana/dashboards"})
