"""Sources of cumulative joules: one file per backend behind :class:`Sensor`.

    found = discover(Config())
    for sensor in found.sensors:
        print(sensor.info.description, sensor.read().joules)

A new backend is a subclass of :class:`Sensor` and a line in ``discover.py``.
"""

from __future__ import annotations

from ecolyzer_otel.sensors.amd import open_amd
from ecolyzer_otel.sensors.apple import open_apple
from ecolyzer_otel.sensors.base import (
    Absence,
    Component,
    Method,
    Reading,
    Reason,
    Sensor,
    SensorError,
    SensorInfo,
    Usage,
)
from ecolyzer_otel.sensors.cpuinfo import CpuInfo, parse_cpuinfo, read_cpuinfo
from ecolyzer_otel.sensors.discover import Discovery, discover
from ecolyzer_otel.sensors.hardware import HardwareTable
from ecolyzer_otel.sensors.hostcpu import HostCpu, Scope
from ecolyzer_otel.sensors.hwmon import PowerFound, find_power
from ecolyzer_otel.sensors.ipmi import open_ipmi
from ecolyzer_otel.sensors.modelled import ModelledCpu, PowerModel, power_model
from ecolyzer_otel.sensors.nvml import NvmlGpu, open_nvml
from ecolyzer_otel.sensors.period import PeriodEstimator
from ecolyzer_otel.sensors.rapl import RaplSensor, open_rapl
from ecolyzer_otel.sensors.replay import RecordedCounter, load_recording
from ecolyzer_otel.sensors.thermal import CpuThermal, find_cpu_thermal

__all__ = [
    "Absence",
    "Component",
    "CpuInfo",
    "CpuThermal",
    "Discovery",
    "HardwareTable",
    "HostCpu",
    "Method",
    "ModelledCpu",
    "NvmlGpu",
    "PeriodEstimator",
    "PowerFound",
    "PowerModel",
    "RaplSensor",
    "Reading",
    "Reason",
    "RecordedCounter",
    "Scope",
    "Sensor",
    "SensorError",
    "SensorInfo",
    "Usage",
    "discover",
    "find_cpu_thermal",
    "find_power",
    "load_recording",
    "open_amd",
    "open_apple",
    "open_ipmi",
    "open_nvml",
    "open_rapl",
    "parse_cpuinfo",
    "power_model",
    "read_cpuinfo",
]
