"""Recorded counters whose joules are known, one look at ``/metrics``, and scripts in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from support.scrape import Scrape, get
from support.waiting import AGES

__all__ = ["Scrape", "get", "recording", "script"]


def recording(path: Path, watts: float = 40.0, idle_watts: float = 10.0, seconds: int = 60, still: int = 0) -> Path:
    """A CPU and a DRAM counter that stand still at first, and then move every 20 ms for a minute."""
    sensors = [
        {
            "id": name,
            "component": name,
            "method": "measured",
            "idle_watts": idle_watts * part,
            "samples": [
                [still * 1_000_000_000 + step * 20_000_000, 100.0 + step * 0.02 * watts * part]
                for step in range(seconds * 50)
            ],
            "celsius": [[0, 51.0]],
        }
        for name, part in (("cpu", 1.0), ("dram", 0.25))
    ]
    path.write_text(json.dumps({"sensors": sensors}))
    return path


def script(body: str, *arguments: str, timeout: float = AGES) -> Any:
    """Run a script in a process of its own; what it prints last is JSON."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body), *arguments], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])
