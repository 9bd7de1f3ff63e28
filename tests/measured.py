"""Recorded counters whose joules are known, one look at ``/metrics``, and scripts in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families as parse_classic


def recording(path: Path, watts: float = 40.0, idle_watts: float = 10.0, seconds: int = 60) -> Path:
    """A CPU and a DRAM counter that move every 20 ms for a minute."""
    sensors = [
        {
            "id": name,
            "component": name,
            "method": "measured",
            "idle_watts": idle_watts * part,
            "samples": [[step * 20_000_000, 100.0 + step * 0.02 * watts * part] for step in range(seconds * 50)],
            "celsius": [[0, 51.0]],
        }
        for name, part in (("cpu", 1.0), ("dram", 0.25))
    ]
    path.write_text(json.dumps({"sensors": sensors}))
    return path


class Scrape:
    """One look at /metrics."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in parse_classic(text) for sample in family.samples]

    def find(self, name: str, **labels: str) -> list[Any]:
        return [one for one in self.samples if one.name == name and labels.items() <= one.labels.items()]

    def total(self, name: str, **labels: str) -> float:
        return sum(one.value for one in self.find(name, **labels))


def get(url: str, accept: str = "text/plain") -> str:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def script(body: str, *arguments: str, timeout: float = 100) -> Any:
    """Run a script in a process of its own; what it prints last is JSON."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body), *arguments], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])
