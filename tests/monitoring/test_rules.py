"""Rules and alerts, by promtool: each fires and is quiet when it should, and says all that is needed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .tools import ROOT, read_yaml, tool

PROMETHEUS = ROOT / "grafana" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
ALERTS: list[dict[str, Any]] = [
    rule for group in read_yaml(PROMETHEUS / "rules" / "alerts.yml")["groups"] for rule in group["rules"]
]
NAMES = sorted({alert["alert"] for alert in ALERTS})
#: What the issue of alerts asks for, beside what was found useful.
ASKED_FOR = {
    "EcolyzerCarbonPerRequestHigh",
    "EcolyzerMonthlyCarbonBudgetBurn",
    "EcolyzerEnergyPerRequestRegression",
    "EcolyzerEssDrop",
    "EcolyzerThermalThrottling",
    "EcolyzerSensorLost",
    "EcolyzerModelledShareHigh",
    "EcolyzerLedgerImbalance",
    "EcolyzerMeterDown",
    "EcolyzerRequestsDropped",
    "EcolyzerFactorsStale",
}


def promtool(*words: object, folder: Path = PROMETHEUS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("promtool"), *map(str, words)], capture_output=True, text=True, timeout=240, cwd=folder
    )


def test_promtool_has_nothing_to_say_against_the_rules() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_has_nothing_to_say_against_the_configuration() -> None:
    done = promtool("check", "config", "--lint=all", "--lint-fatal", PROMETHEUS / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_are_quiet_when_they_should(path: Path) -> None:
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("requests.yml", "ecolyzer_requests:increase1h >= 100", "ecolyzer_requests:increase1h >= 1"),
        ("month.yml", "ratio_rate1h > 14.4", "ratio_rate1h > 30"),
        ("meters.yml", "[10m])) > 0.05", "[10m])) > 0.5"),
    ],
)
def test_another_threshold_makes_these_tests_fail(file: str, old: str, new: str, tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    rules = tmp_path / "prometheus" / "rules" / "alerts.yml"
    text = rules.read_text()
    assert old in text
    rules.write_text(text.replace(old, new))
    assert promtool("test", "rules", tmp_path / "prometheus" / "tests" / file).returncode == 1


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_is_tested_both_ways(name: str) -> None:
    cases = [
        case
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == name
    ]
    assert any(case.get("exp_alerts") for case in cases), "it never fires"
    assert any(not case.get("exp_alerts") for case in cases), "it is never quiet"


def test_the_alerts_that_are_needed_are_there() -> None:
    assert set(NAMES) >= ASKED_FOR
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(NAMES)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert['alert']}-{alert['labels']['severity']}")
def test_an_alert_says_who_how_much_compared_with_what_since_when_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "dashboard_url", "runbook_url"}
    assert notes["description"].startswith(notes["summary"])
    assert "$value" in notes["summary"] or alert["alert"] in ("EcolyzerSensorLost", "EcolyzerMeterDown")
    # A limit, a budget, a baseline, or the last time that all was well.
    assert re.search(r"limit|budget|7 days|last one is|targets of the job|normal", notes["summary"])
    assert " Since {{" in notes["description"]
    assert " First: " in notes["description"]
    assert "model" in notes["description"].lower() or "Services" in notes["description"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert['alert']}-{alert['labels']['severity']}")
def test_an_alerts_links_lead_to_its_runbook_and_to_a_dashboard_that_knows_its_variables(
    alert: dict[str, Any],
) -> None:
    notes = alert["annotations"]
    boards = {
        board["uid"]: board
        for board in (json.loads(path.read_text()) for path in (ROOT / "grafana" / "dashboards").glob("*.json"))
    }
    runbook = re.fullmatch(
        r"http://127\.0\.0\.1:3000/d/ecolyzer-runbooks/(\w+)\?viewPanel=(\d+)", notes["runbook_url"]
    )
    assert runbook
    assert runbook[1] == alert["alert"]
    panel = {panel["id"]: panel for panel in boards["ecolyzer-runbooks"]["panels"]}[int(runbook[2])]
    assert panel["title"] == alert["alert"]
    assert panel["options"]["content"] == (RUNBOOKS / f"{alert['alert']}.md").read_text()
    uid = re.match(r"http://127\.0\.0\.1:3000/d/([\w-]+)", notes["dashboard_url"])
    assert uid
    variables = {one["name"] for one in boards[uid[1]]["templating"]["list"]}
    assert set(re.findall(r"var-(\w+)=", notes["dashboard_url"])) <= variables
