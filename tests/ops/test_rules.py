"""Prometheus' configuration, rules and alerts: accepted by promtool, about metrics there are, tried, and explained."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.ops.conftest import Told, needs_promtool
from tests.ops.promql import promtool

from parley.settings import every_setting

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "prometheus"
DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
SECTIONS = ("## What it means", "## Look first", "## Likely causes", "## What to do", "## It is over when")
SEVERITIES = {"page", "ticket", "none"}


def _rules() -> Iterator[Mapping[str, Any]]:
    for path in sorted((FOLDER / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


ALERTS = [rule for rule in _rules() if "alert" in rule]
RECORDED = {rule["record"] for rule in _rules() if "record" in rule}
PAGES = sorted({alert["alert"] for alert in ALERTS})


def _cases() -> Iterator[Mapping[str, Any]]:
    for path in sorted((FOLDER / "tests").glob("*.yml")):
        for test in yaml.safe_load(path.read_text())["tests"]:
            yield from test["promql_expr_test"]


@needs_promtool
def test_configuration_and_rules_are_accepted() -> None:
    checked = promtool("check", "config", FOLDER / "prometheus.yml")

    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_the_configuration_is_accepted_with_its_options_switched_on(tmp_path: Path) -> None:
    lines = (FOLDER / "prometheus.yml").read_text().splitlines()
    switched = [
        line.replace("# ", "", 1) if line.lstrip().startswith("# ") and _is_option(line) else line for line in lines
    ]
    (tmp_path / "ops-token").write_text("secret")
    (tmp_path / "prometheus.yml").write_text("\n".join(switched))
    checked = promtool("check", "config", tmp_path / "prometheus.yml")

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert {"alerting", "scrape_configs"} <= set(read := yaml.safe_load("\n".join(switched)))
    assert read["scrape_configs"][0]["authorization"] == {"credentials_file": "ops-token"}


def _is_option(line: str) -> bool:
    words = line.lstrip("# ")
    return words.endswith(":") or words.startswith(("- ", "credentials_file"))


@needs_promtool
def test_every_case_of_the_alerts_comes_out_as_said() -> None:
    tried = promtool("test", "rules", *sorted((FOLDER / "tests").glob("*.yml")))

    assert tried.returncode == 0, tried.stdout + tried.stderr


@pytest.mark.parametrize(("alert", "severity"), [(a["alert"], a["labels"]["severity"]) for a in ALERTS])
def test_an_alert_has_a_case_that_fires_and_one_that_does_not(alert: str, severity: str) -> None:
    severities = [a["labels"]["severity"] for a in ALERTS if a["alert"] == alert]
    named = f'alertname="{alert}"'
    mine = [
        case
        for case in _cases()
        if named in case["expr"] and (len(severities) == 1 or f'severity="{severity}"' in case["expr"])
    ]

    assert {bool(case["exp_samples"]) for case in mine} == {True, False}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda a: f"{a['alert']}-{a['labels']['severity']}")
def test_an_alert_tells_what_is_wrong_and_where_to_read_on(alert: Mapping[str, Any]) -> None:
    assert alert["labels"]["severity"] in SEVERITIES
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"prometheus/runbooks/{alert['alert']}.md"


@pytest.mark.parametrize("name", PAGES)
def test_a_runbook_has_what_one_looks_for_at_night(name: str) -> None:
    text = (FOLDER / "runbooks" / f"{name}.md").read_text()

    assert text.startswith(f"# {name}\n")
    places = [text.find(f"\n{section}\n") for section in SECTIONS]
    assert -1 not in places
    assert places == sorted(places)
    assert "/d/parley-" in text, "no dashboard is named"


@pytest.mark.parametrize("name", PAGES)
def test_a_runbook_names_panels_settings_and_pages_that_exist(name: str) -> None:
    text = " ".join((FOLDER / "runbooks" / f"{name}.md").read_text().split())
    settings = {env_name for setting in every_setting() for env_name in setting.env_names}

    assert set(re.findall(r'"([A-Z][^"$]*)"', text)) <= _titles()
    assert set(re.findall(r"`(PARLEY_\w+[A-Z])\b", text)) <= settings
    assert set(re.findall(r"/d/parley-(\w+)", text)) <= {path.stem for path in DASHBOARDS}
    assert set(re.findall(r"\]\((\w+)\.md\)", text)) <= set(PAGES)


def _titles() -> set[str]:
    return {panel["title"] for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]}


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    assert [path.stem for path in sorted((FOLDER / "runbooks").glob("*.md"))] == PAGES


async def test_rules_ask_for_metrics_that_a_live_scrape_has(told: Told) -> None:
    assert {lack for rule in _rules() for lack in told.lacks(rule["expr"], RECORDED)} == set()


def test_what_is_recorded_is_used() -> None:
    texts = [path.read_text() for path in DASHBOARDS]
    texts += [rule["expr"] for rule in ALERTS]

    assert [name for name in sorted(RECORDED) if not any(name in text for text in texts)] == []
