"""The whole stack, alive: dashboards show data, an alert reaches a person, exemplars lead to spans."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from support.scrape import get
from support.waiting import AGES

from . import faults
from .stack import Stack
from .tools import ROOT, tool

sys.path.insert(0, str(ROOT / "grafana"))
from check import Answer, Prometheus, check, queries

DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
CARBON = "EcolyzerCarbonPerRequestHigh"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Up, under load for some seconds, and with everything gone wrong once that the dashboards tell of."""
    for name in ("prometheus", "promtool", "alertmanager"):
        tool(name)
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        running.machine.throttle(True)
        running.until(
            lambda: "ecolyzer_phase_energy_joules_total{" in running.metrics(),
            "requests of every model",
        )
        # The meter is killed under load: requests are lost, another meter takes over.
        for _ in range(5):
            faults.drop_requests(running.service)
            time.sleep(3)
            running.until(running.metrics, "the next meter")
            if "ecolyzer_dropped_requests_total{" in running.metrics():
                break
        for _ in range(5):
            if "ecolyzer_unsettled_requests_total{" in running.metrics():
                break
            faults.delay_requests(running.service)
        assert faults.fail_request(f"http://{running.at['service']}") == 500
        faults.grid_file(running.grid, "FR", 45.0)
        yield running


def ask(stack: Stack, query: str) -> list[dict[str, Any]]:
    """An instant query's result."""
    url = f"http://{stack.at['prometheus']}/api/v1/query?{urlencode({'query': query})}"
    return json.loads(get(url))["data"]["result"]


def test_the_carbon_alert_reaches_alertmanager_and_a_person(stack: Stack) -> None:
    firing = stack.until(
        lambda: ask(stack, f'ALERTS{{alertname="{CARBON}", alertstate="firing"}}'), "the alert in Prometheus"
    )
    assert {one["metric"]["service"] for one in firing} == {"example"}
    assert {one["metric"]["severity"] for one in firing} == {"warning"}
    there = f"http://{stack.at['alertmanager']}/api/v2/alerts?filter=alertname%3D{CARBON}"
    stack.until(lambda: json.loads(get(there)), "the alert in Alertmanager")
    text = stack.until(
        lambda: CARBON in stack.output("notifications") and stack.output("notifications"),
        "the webhook",
    )
    told = [line for line in text.splitlines() if "gCO2e per request (last 5 min), budget 1ng." in line]
    assert told, text
    # Who, how much, compared with what, since when, what to do first.
    assert all("example, model " in line and " Since 20" in line and "First: " in line for line in told)
    assert "unknown" not in "".join(told)
    assert f"/d/ecolyzer-runbooks/{CARBON}" in text


def test_every_query_of_every_dashboard_has_data(stack: Stack) -> None:
    # Sensor lost: its errors, its state and the modelled part have something to show.
    stack.machine.lose_gpu()
    stack.until(
        lambda: 'sensor="gpu0",method="measured"} 0' in stack.metrics(),
        "the lost sensor",
    )
    deadline = time.monotonic() + AGES
    while True:
        answers = check(DASHBOARDS, Prometheus(f"http://{stack.at['prometheus']}", minutes=4))
        bad = [one for one in answers if not one.good]
        if not bad or time.monotonic() > deadline:
            break
        time.sleep(5)
    assert not bad, "\n".join(_told(one) for one in bad)
    assert len(answers) > 150
    exemplars = {one.query.place: one.exemplars for one in answers if one.query.exemplars}
    assert exemplars["Energy of requests A"] > 0
    assert exemplars["CO2e of requests A"] > 0


def _told(answer: Answer) -> str:
    return f"{answer.query.dashboard}: {answer.query.place}: {answer.error or 'no data'}: {answer.query.expr}"


def test_the_other_faults_are_noticed(stack: Stack) -> None:
    """They fire two minutes after, which nobody waits for here; promtool's tests do."""
    for name, labels in (
        ("EcolyzerThermalThrottling", {"device": "gpu0"}),
        ("EcolyzerSensorLost", {"sensor": "gpu0"}),
    ):
        found = stack.until(lambda name=name: ask(stack, f'ALERTS{{alertname="{name}"}}'), name)
        assert [labels.items() <= one["metric"].items() for one in found] == [True]


def test_an_exemplar_is_the_trace_of_a_span_that_was_exported(stack: Stack) -> None:
    server = Prometheus(f"http://{stack.at['prometheus']}", minutes=4)
    found = server.get(
        "query_exemplars",
        query="ecolyzer_request_energy_joules_bucket",
        start=f"{server.start:.3f}",
        end=f"{server.end:.3f}",
    )
    traces = {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}
    assert traces

    def missing() -> set[str]:
        with stack.receiver.lock:
            return traces - {trace.hex() for trace in stack.receiver.inferred}

    # The SDK exports every 5 s.
    stack.until(lambda: not missing(), "the spans of all exemplars")


def test_recorded_and_alerting_rules_evaluate_without_an_error(stack: Stack) -> None:
    groups = json.loads(get(f"http://{stack.at['prometheus']}/api/v1/rules"))["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 40
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] == "err"] == []


def test_the_page_is_as_promtool_wants_it(stack: Stack) -> None:
    checked = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=stack.metrics().encode(), capture_output=True, timeout=240
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_a_renamed_metric_is_found(stack: Stack, tmp_path: Path) -> None:
    """The check itself can fail."""
    board = (ROOT / "grafana" / "dashboards" / "fleet.json").read_text()
    broken = tmp_path / "broken.json"
    broken.write_text(board.replace("ecolyzer_water_liters_total{", "ecolyzer_water_litres_total{"))
    answers = check([broken], Prometheus(f"http://{stack.at['prometheus']}", minutes=4))
    assert {one.query.place for one in answers if not one.good} >= {"Water A", "Water by scope A"}
    assert any(one.kind == "other" for one in queries(ROOT / "grafana" / "dashboards" / "requests.json"))
