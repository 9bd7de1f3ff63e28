"""Readings that the launcher took before the meter started: the starting points of sensors and ledger."""

from __future__ import annotations

import os
from typing import Any

from ecolyzer_otel.ledger import Ledger
from ecolyzer_otel.sensors import Discovery, ModelledCpu, RaplSensor, SensorError

__all__ = ["apply"]


def apply(early: dict[str, Any], discovery: Discovery, ledger: Ledger) -> None:
    """Start the sensors and the ledger at the launcher's readings."""
    t_ns, busy = int(early["t_ns"]), early["busy"]
    host_scope = discovery.host.scope == "host" and busy is not None
    if host_scope:
        try:
            busy = discovery.host.from_proc_stat(busy)
        except SensorError:
            host_scope = False
    if host_scope:
        ledger.activity.host.add(t_ns, busy)
    for sensor in discovery.sensors:
        if isinstance(sensor, ModelledCpu) and host_scope:
            sensor.begin(t_ns, busy)
            ledger.sample(sensor.info.id, t_ns, 0.0)
        elif isinstance(sensor, RaplSensor):
            microjoules = early["rapl"].get(os.path.realpath(sensor.folder))
            if microjoules is not None:
                ledger.sample(sensor.info.id, t_ns, microjoules / 1e6)
