"""Apple silicon through ``zeus-apple-silicon``, which is optional: CPU, GPU and DRAM energy, without root.

``AppleEnergyMonitor.get_cumulative_energy()`` returns millijoules of the IOReport framework since a time that is
fixed for the monitor's life, or None where a chip does not report them. According to Apple (man page of
``powermetrics``) the values are estimated and may be inaccurate: they come from a model in the chip, not a sensor.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from ecolyzer_otel.sensors.base import Absence, Component, Reading, Sensor, SensorError, SensorInfo

__all__ = ["AppleSensor", "open_apple"]

_MILLI: Final = 1e-3
#: No comparison with an external meter is published; Apple calls the values "estimated and may be inaccurate".
_UNCERTAINTY: Final = 0.10
#: The counters are updated by each read; below this their quantum of 1 mJ dominates (README of zeus-apple-silicon).
_UPDATE_PERIOD_SECONDS: Final = 0.01
_REMEDY: Final = "pip install zeus-apple-silicon (or ecolyzer-otel[apple]) on a Mac with Apple silicon"
#: Component and counters by sensor. The neural engine is not included; GPU SRAM belongs to the GPU.
_PARTS: Final[dict[str, tuple[Component, tuple[str, ...]]]] = {
    "cpu": ("cpu", ("cpu_total_mj",)),
    "gpu0": ("gpu", ("gpu_mj", "gpu_sram_mj")),
    "dram": ("dram", ("dram_mj",)),
}


class _Monitor:
    """One energy monitor for all sensors: its counters are only comparable within its own life."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._monitor: Any = None
        self.life = 0

    def read(self) -> Any:
        try:
            if self._monitor is None:
                self._monitor = self._module.AppleEnergyMonitor()
                self.life += 1
            return self._monitor.get_cumulative_energy()
        except Exception as error:
            self._monitor = None
            text = " ".join(str(error).split()) or type(error).__name__
            raise SensorError("io", f"Apple silicon: {text}", "wait: the meter opens it again") from error


class AppleSensor(Sensor):
    """CPU, GPU or DRAM of an Apple chip. It never falls: a new monitor continues from the last value."""

    def __init__(
        self, monitor: _Monitor, info: SensorInfo, fields: tuple[str, ...], clock: Callable[[], int]
    ) -> None:
        self._monitor = monitor
        self._info = info
        self._fields = fields
        self._clock = clock
        self._life = 0
        self._base = 0.0
        self._last = 0.0

    @property
    def info(self) -> SensorInfo:
        """The properties of the sensor."""
        return self._info

    def read(self) -> Reading:
        """Returns the sum of the chip's counters in joules.

        Raises:
            SensorError: ``io`` if IOReport fails, ``absent`` if this chip does not report the energy.
        """
        energy = self._monitor.read()
        t_ns = self._clock()
        values = [getattr(energy, field, None) for field in self._fields]
        if values[0] is None:
            problem = f"{self._info.description}: this chip does not report it"
            raise SensorError("absent", problem, "no action is possible")
        joules = sum(float(value) for value in values if value is not None) * _MILLI
        if self._monitor.life != self._life:
            self._base = self._last - joules if self._life else 0.0
            self._life = self._monitor.life
        self._last = self._base + joules
        return Reading(t_ns, self._last)


def open_apple(clock: Callable[[], int] = time.monotonic_ns) -> tuple[list[Sensor], list[Absence]]:
    """Returns the sensors of CPU, GPU and DRAM that this Mac has; elsewhere an absence."""
    try:
        module = importlib.import_module("zeus_apple_silicon")
    except Exception as error:  # noqa: BLE001 - a broken package must not stop the meter
        if not isinstance(error, ModuleNotFoundError):
            return [], [Absence("Apple silicon", "io", f"zeus_apple_silicon: {error}", _REMEDY)]
        where = "" if sys.platform == "darwin" else " (this is not a Mac)"
        problem = f"the Python package zeus-apple-silicon is not installed{where}"
        return [], [Absence("Apple silicon", "absent", problem, _REMEDY)]
    monitor = _Monitor(module)
    sensors: list[Sensor] = []
    absences: list[Absence] = []
    for identity, (component, fields) in _PARTS.items():
        info = SensorInfo(
            id=identity,
            component=component,
            method="measured",
            description=f"Apple silicon {identity}",
            update_period_seconds=_UPDATE_PERIOD_SECONDS,
            relative_uncertainty=_UNCERTAINTY,
        )
        sensor = AppleSensor(monitor, info, fields, clock)
        try:
            sensor.read()
        except SensorError as error:
            absences.append(Absence.of(f"Apple silicon {identity}", error))
        else:
            sensors.append(sensor)
    return sensors, absences
