"""Readings taken by the launcher, before the meter is up, so that a script shorter than that has readings too.

Counters are cumulative: one early reading is all it takes. Read with as little as can be: the
command waits.
"""

from __future__ import annotations

import os
from time import monotonic_ns
from typing import Any, Final

__all__ = ["take"]

#: user, nice, system, irq, softirq in the first line of /proc/stat (proc(5)); without idle, iowait, steal.
_BUSY_FIELDS: Final = (1, 2, 3, 6, 7)


def take(sysfs: str) -> dict[str, Any]:
    """What can be read at once: busy CPU seconds of the host, and RAPL counters (uJ) by the zone's real path."""
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
            fields = file.readline().split()
        return sum(int(fields[i]) for i in _BUSY_FIELDS) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
