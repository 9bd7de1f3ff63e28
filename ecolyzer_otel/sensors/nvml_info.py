"""The properties of an NVIDIA GPU: name, limits, MIG instances, and the uncertainty of its power."""

from __future__ import annotations

from typing import Any, Final

from ecolyzer_otel.sensors.base import SensorInfo
from ecolyzer_otel.sensors.hardware import HardwareTable
from ecolyzer_otel.sensors.nvml_session import NvmlSession

__all__ = ["describe"]

_MILLI: Final = 1e-3
_UPDATE_PERIOD_SECONDS: Final = 0.1
#: One standard uncertainty of the gain of energy over many windows, by architecture (NVML_DEVICE_ARCH_*): 5 % where
#: the sensor samples all or half of the time (gains of -4 to -6 % against a power meter, arXiv 2312.02741), 10 %
#: where it samples a quarter of the time, and where there is no source.
_GAIN: Final = {4: 0.05, 5: 0.05, 6: 0.05, 7: 0.05, 8: 0.05, 9: 0.10}
_GAIN_UNKNOWN: Final = 0.10
#: Of Ampere only GA100 samples a part of the time.
_GA100: Final = ("A100", "A800", "A30 ", "A30-")
_ARCH_AMPERE: Final = 7


def describe(session: NvmlSession, handle: Any, index: int) -> SensorInfo:
    """Returns the properties of the GPU behind ``handle``; None for those that NVML does not have."""
    nvml = session.nvml
    name = session.call_or_none("nvmlDeviceGetName", handle) or "GPU"
    limit = session.call_or_none("nvmlDeviceGetEnforcedPowerLimit", handle)
    bounds = session.call_or_none("nvmlDeviceGetPowerManagementLimitConstraints", handle)
    threshold = nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
    slowdown = session.call_or_none("nvmlDeviceGetTemperatureThreshold", handle, threshold)
    architecture = session.call_or_none("nvmlDeviceGetArchitecture", handle)
    gain = _GAIN.get(architecture, _GAIN_UNKNOWN)
    if architecture == _ARCH_AMPERE and any(chip in f"{name} " for chip in _GA100):
        gain = _GAIN_UNKNOWN
    return SensorInfo(
        id=f"gpu{index}",
        component="gpu",
        method="measured",
        description=f"NVML {name} gpu{index}",
        idle_prior_watts=HardwareTable.load().gpu_idle(name),
        power_limit_watts=limit * _MILLI if limit else None,
        peak_watts=bounds[1] * _MILLI if bounds and bounds[1] else None,
        temperature_limit_celsius=float(slowdown) if slowdown else None,
        update_period_seconds=_UPDATE_PERIOD_SECONDS,
        relative_uncertainty=gain,
        uuid=session.call_or_none("nvmlDeviceGetUUID", handle),
        partitions=_partitions(session, handle),
    )


def _partitions(session: NvmlSession, handle: Any) -> tuple[tuple[str, float], ...]:
    """The MIG devices by UUID, with their fraction of the compute slices (7 on A100 and H100, 4 on A30)."""
    mode = session.call_or_none("nvmlDeviceGetMigMode", handle)
    most = session.call_or_none("nvmlDeviceGetMaxMigDeviceCount", handle) if mode and mode[0] else None
    parts: list[tuple[str, float]] = []
    for index in range(most or 0):
        device = session.call_or_none("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        uuid = session.call_or_none("nvmlDeviceGetUUID", device) if device is not None else None
        attributes = session.call_or_none("nvmlDeviceGetAttributes_v2", device) if uuid else None
        if attributes is not None:
            # A GPU instance may be shared by several compute instances, each a MIG device of its own.
            slices = attributes.computeInstanceSliceCount or attributes.gpuInstanceSliceCount
            parts.append((str(uuid), min(1.0, slices / (most or 7))))
    return tuple(part for part in parts if part[1] > 0)
