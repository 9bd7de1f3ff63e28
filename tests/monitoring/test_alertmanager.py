"""grafana/alertmanager: valid for the tool, and each severity goes where and as often as it should."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from .tools import ROOT, read_yaml, tool

FILE = ROOT / "grafana" / "alertmanager" / "alertmanager.yml"
RULES = sorted((ROOT / "grafana" / "prometheus" / "rules").glob("*.yml"))


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return read_yaml(FILE)


def amtool(*arguments: str) -> str:
    return subprocess.run(
        [tool("amtool"), *arguments], check=True, capture_output=True, text=True, timeout=240
    ).stdout.strip()


def test_the_tool_finds_no_fault() -> None:
    assert "SUCCESS" in amtool("check-config", str(FILE))


@pytest.mark.parametrize("severity", ["critical", "warning", "info", "anything"])
def test_every_alert_is_told(severity: str) -> None:
    labels = [f"severity={severity}", "alertname=EcolyzerMeterDown"]
    assert amtool("config", "routes", "test", f"--config.file={FILE}", *labels) == "notifications"


def test_each_severity_has_its_patience(config: dict[str, Any]) -> None:
    patience = {route["matchers"][0]: route["repeat_interval"] for route in config["route"]["routes"]}
    assert patience == {'severity = "critical"': "4h", 'severity = "warning"': "12h", 'severity = "info"': "24h"}


def test_the_rules_know_no_other_severity(config: dict[str, Any]) -> None:
    rules = [rule for file in RULES for group in read_yaml(file)["groups"] for rule in group["rules"]]
    used = {f'severity = "{rule["labels"]["severity"]}"' for rule in rules if "alert" in rule}
    assert used <= {route["matchers"][0] for route in config["route"]["routes"]}


def test_inhibition_speaks_of_alerts_that_there_are(config: dict[str, Any]) -> None:
    rules = [rule for file in RULES for group in read_yaml(file)["groups"] for rule in group["rules"]]
    alerts = {rule["alert"] for rule in rules if "alert" in rule}
    named = {
        matcher.split('"')[1]
        for inhibition in config["inhibit_rules"]
        for matcher in inhibition["source_matchers"] + inhibition["target_matchers"]
        if matcher.startswith("alertname") and "~" not in matcher
    }
    assert named <= alerts


def test_what_is_posted_is_what_the_receiver_of_the_stack_listens_for(config: dict[str, Any]) -> None:
    command = read_yaml("docker-compose.yml")["services"]["notifications"]["command"]
    port = command[command.index("--port") + 1]
    urls = [hook["url"] for receiver in config["receivers"] for hook in receiver["webhook_configs"]]
    assert urls == [f"http://notifications:{port}/"]
