"""Readings taken by the launcher, before the meter is up, so that a script shorter than that has readings too.

Counters are cumulative: one early reading is all it takes. Read with as little as can be: the
command waits.
"""

from __future__ import annotations

import os
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ecolyzer_otel.ledger import Ledger
    from ecolyzer_otel.sensors import Discovery

__all__ = ["apply", "take"]

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


def apply(early: dict[str, Any], discovery: Discovery, ledger: Ledger) -> None:
    """Let the sensors and the ledger begin where the launcher looked."""
    from ecolyzer_otel.sensors import ModelledCpu, RaplSensor, SensorError

    t_ns, busy = int(early["t_ns"]), early["busy"]
    whole_host = discovery.host.scope == "host" and busy is not None
    if whole_host:
        try:
            busy = discovery.host.of_ticks(busy)
        except SensorError:
            whole_host = False
    if whole_host:
        ledger.activity.host.add(t_ns, busy)
    for sensor in discovery.sensors:
        if isinstance(sensor, ModelledCpu) and whole_host:
            sensor.begin(t_ns, busy)
            ledger.sample(sensor.info.id, t_ns, 0.0)
        elif isinstance(sensor, RaplSensor):
            microjoules = early["rapl"].get(os.path.realpath(sensor.folder))
            if microjoules is not None:
                ledger.sample(sensor.info.id, t_ns, microjoules / 1e6)
