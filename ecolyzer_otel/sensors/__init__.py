"""Sensors: sources of cumulative joules, one file for each backend of :class:`Sensor`.

    found = discover(Config())
    for sensor in found.sensors:
        print(sensor.info.description, sensor.read().joules)

A new backend is a subclass of :class:`Sensor` and an entry in ``discover.py``.

Other folders import these names from here; modules of this folder import from each other.
"""

from __future__ import annotations

from ecolyzer_otel.sensors.base import Reading, Sensor, SensorError, SensorInfo
from ecolyzer_otel.sensors.discover import Discovery, discover
from ecolyzer_otel.sensors.hostcpu import HostCpu, Scope
from ecolyzer_otel.sensors.modelled import ModelledCpu
from ecolyzer_otel.sensors.period import PeriodEstimator
from ecolyzer_otel.sensors.rapl import RaplSensor

__all__ = [
    "Discovery",
    "HostCpu",
    "ModelledCpu",
    "PeriodEstimator",
    "RaplSensor",
    "Reading",
    "Scope",
    "Sensor",
    "SensorError",
    "SensorInfo",
    "discover",
]
