"""Readings taken before the meter was up, given to its sensors and its ledger."""

from __future__ import annotations

import os
from typing import Any

from ecolyzer_otel.ledger import Ledger
from ecolyzer_otel.sensors import Discovery, ModelledCpu, RaplSensor, SensorError

__all__ = ["apply"]


def apply(early: dict[str, Any], discovery: Discovery, ledger: Ledger) -> None:
    """Let the sensors and the ledger begin where the launcher looked."""
    t_ns, busy = int(early["t_ns"]), early["busy"]
    whole_host = discovery.host.scope == "host" and busy is not None
    if whole_host:
        try:
            busy = discovery.host.from_proc_stat(busy)
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
