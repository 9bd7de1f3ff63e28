"""examples/notifications.py prints what a real Alertmanager sends, and nothing else brings it down."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.ports import free_port
from support.processes import Program
from support.scrape import get
from support.waiting import AGES, PATIENCE, until

from .tools import ROOT, tool

#: Version 4 of the webhook's message, https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
MESSAGE: dict[str, Any] = {
    "version": "4",
    "groupKey": '{}:{alertname="EcolyzerCarbonPerRequestHigh"}',
    "truncatedAlerts": 2,
    "status": "firing",
    "receiver": "notifications",
    "groupLabels": {"alertname": "EcolyzerCarbonPerRequestHigh"},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "http://alertmanager:9093",
    "alerts": [
        {
            "status": "firing",
            "labels": {
                "alertname": "EcolyzerCarbonPerRequestHigh",
                "severity": "warning",
                "service": "shop",
                "model": "resnet50",
            },
            "annotations": {
                "summary": "short",
                "description": "shop, model resnet50: 12 ugCO2e per request",
                "runbook_url": "http://runbook.example/1",
            },
            "startsAt": "2026-11-25T10:00:00.123Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": "1",
        },
        {
            "status": "resolved",
            "labels": {"alertname": "EcolyzerMeterDown", "severity": "critical", "instance": "a:9465"},
            "annotations": {"summary": "the meter is back\n\x1b[2Jnext line"},
            "startsAt": "2026-11-25T09:00:00Z",
            "endsAt": "2026-11-25T11:00:00Z",
            "generatorURL": "",
            "fingerprint": "2",
        },
    ],
}


@dataclass
class Receiver:
    process: subprocess.Popen[bytes]
    url: str
    out: Path

    def post(self, body: bytes) -> int:
        request = urllib.request.Request(self.url, data=body, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def printed(self) -> list[str]:
        return self.out.read_text().splitlines()[1:]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "examples" / "notifications.py"), "--port", "0"]
    with out.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    program = Program("notifications.py", process, out)
    found = until(lambda: re.search(r"http://\S+", program.output), "where it listens", program)
    yield Receiver(process, found.group(), out)
    process.terminate()
    assert process.wait(PATIENCE) == 0


def test_alerts_are_printed_for_people(receiver: Receiver) -> None:
    assert receiver.post(json.dumps(MESSAGE).encode()) == 200
    assert receiver.printed() == [
        "FIRING warning EcolyzerCarbonPerRequestHigh 2026-11-25T10:00:00Z",
        "  model=resnet50 service=shop",
        "  shop, model resnet50: 12 ugCO2e per request",
        "  http://runbook.example/1",
        "RESOLVED critical EcolyzerMeterDown 2026-11-25T11:00:00Z",
        "  instance=a:9465",
        "  the meter is back  [2Jnext line",
        "and 2 more",
    ]


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b"{}", b'{"alerts": [{}]}', b'{"alerts": 1}'])
def test_nonsense_is_refused_and_does_no_harm(receiver: Receiver, body: bytes) -> None:
    assert receiver.post(body) == 400
    assert receiver.printed() == []
    assert receiver.post(json.dumps(MESSAGE).encode()) == 200


def test_it_says_that_it_is_well(receiver: Receiver) -> None:
    with urllib.request.urlopen(receiver.url, timeout=60) as answer:
        assert answer.read() == b"ok\n"


def test_an_alert_gets_through_a_real_alertmanager(receiver: Receiver, tmp_path: Path) -> None:
    """The file of the stack, with other addresses; and what follows from another alert is not told."""
    port = free_port()
    text = (ROOT / "grafana" / "alertmanager" / "alertmanager.yml").read_text()
    text = text.replace("http://notifications:8080/", receiver.url).replace("group_wait: 10s", "group_wait: 1s")
    (tmp_path / "alertmanager.yml").write_text(text)
    command = [
        tool("alertmanager"),
        f"--config.file={tmp_path / 'alertmanager.yml'}",
        f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with (tmp_path / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        alertmanager = Program("alertmanager", process, tmp_path / "alertmanager.log")
        until(
            lambda: get(f"http://127.0.0.1:{port}/-/ready"), "it is ready", alertmanager, seconds=AGES, pause=0.25
        )
        for labels in (
            {"alertname": "EcolyzerMeterDown", "severity": "critical", "job": "ecolyzer", "instance": "a:9465"},
            {"alertname": "EcolyzerSensorLost", "severity": "critical", "job": "ecolyzer", "instance": "a:9465"},
            {"alertname": "EcolyzerSensorLost", "severity": "critical", "job": "ecolyzer", "instance": "b:9465"},
        ):
            send(f"http://127.0.0.1:{port}/api/v2/alerts", labels)
        until(
            lambda: sum(line.startswith("FIRING") for line in receiver.printed()) >= 2,
            receiver.printed,
            alertmanager,
        )
    finally:
        process.terminate()
        process.wait(PATIENCE)
    printed = receiver.printed()
    assert sorted(line.split()[2] for line in printed if line.startswith("FIRING")) == [
        "EcolyzerMeterDown",
        "EcolyzerSensorLost",
    ]
    assert sorted(line.strip() for line in printed if "instance=" in line) == [
        "instance=a:9465 job=ecolyzer",
        "instance=b:9465 job=ecolyzer",
    ]


def send(url: str, labels: dict[str, str]) -> None:
    body = json.dumps([{"labels": labels, "annotations": {"summary": "a test"}}]).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=60).close()
