"""Readings taken by the launcher before the meter is up, so that a very short script has readings, too.

Counters are cumulative: one early reading is all it takes. Read with as little as can be: the
command waits.
"""

from __future__ import annotations

import os
from time import monotonic_ns
from typing import Any

from ecolyzer_otel.common.procstat import busy_ticks

__all__ = ["take"]


def take(sysfs: str) -> dict[str, Any]:
    """Readings available at once: busy CPU seconds of the host, and RAPL counters (uJ) by the zone's real path."""
    rapl: dict[str, int] = {}
    root = os.path.join(sysfs, "class", "powercap")
    try:
        zones = os.listdir(root)
    except OSError:
        zones = []
    for zone in zones:
        if zone.startswith("intel-rapl:"):
            folder = os.path.realpath(os.path.join(root, zone))
            try:
                with open(os.path.join(folder, "energy_uj"), "rb") as file:
                    rapl[folder] = int(file.read())
            except (OSError, ValueError):
                continue
    return {"t_ns": monotonic_ns(), "busy": _busy(), "rapl": rapl}


def _busy() -> float | None:
    try:
        with open("/proc/stat", "rb") as file:
            return busy_ticks(file.readline().split()) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None
