"""Apple silicon through ``zeus-apple-silicon``, which is optional: CPU, GPU and DRAM energy, without root.

``AppleEnergyMonitor.get_cumulative_energy()`` gives millijoules of the IOReport framework since a moment that is
fixed for the monitor's life, None where a chip does not tell. Apple's own words (man page of ``powermetrics``): the
values are estimated and may be inaccurate; they are a model of the chip's, not a sensor's.
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
#: No comparison with a meter is known; Apple says "estimated and may be inaccurate".
_UNCERTAINTY: Final = 0.10
#: The counters move when they are read; below this their quantum of 1 mJ dominates (README of zeus-apple-silicon).
_UPDATE_PERIOD_SECONDS: Final = 0.01
_REMEDY: Final = "pip install zeus-apple-silicon (or ecolyzer-otel[apple]) on a Mac with Apple silicon"
#: What is charged as what. The neural engine is its own unit and runs for whoever asks; GPU SRAM is the GPU's.
_PARTS: Final[dict[str, tuple[Component, tuple[str, ...]]]] = {
    "cpu": ("cpu", ("cpu_total_mj",)),
    "gpu0": ("gpu", ("gpu_mj", "gpu_sram_mj")),
    "dram": ("dram", ("dram_mj",)),
}


class _Monitor:
    """One energy monitor for all parts: its counters are only comparable within its own life."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._monitor: Any = None
        self.life = 0

    def look(self) -> Any:
        try:
            if self._monitor is None:
                self._monitor = self._module.AppleEnergyMonitor()
                self.life += 1
            return self._monitor.get_cumulative_energy()
        except Exception as error:
            self._monitor = None
            text = " ".join(str(error).split()) or type(error).__name__
            raise SensorError("io", f"Apple silicon: {text}", "it is opened again by itself") from error


class AppleSensor(Sensor):
    """CPU, GPU or DRAM of an Apple chip. It never falls: a new monitor goes on from where the last one was."""

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
        """What does not change."""
        return self._info

    def read(self) -> Reading:
        """Millijoules of the chip's counters, in joules.

        Raises:
            SensorError: ``io`` when IOReport fails, ``absent`` when this chip does not tell.
        """
        told = self._monitor.look()
        t_ns = self._clock()
        values = [getattr(told, field, None) for field in self._fields]
        known = [float(value) for value in values if value is not None]
        if values[0] is None:
            raise SensorError("absent", f"{self._info.description}: this chip does not tell it", "none")
        joules = sum(known) * _MILLI
        if self._monitor.life != self._life:
            self._base = self._last - joules if self._life else 0.0
            self._life = self._monitor.life
        self._last = self._base + joules
        return Reading(t_ns, self._last)


def open_apple(clock: Callable[[], int] = time.monotonic_ns) -> tuple[list[Sensor], list[Absence]]:
    """CPU, GPU and DRAM of this Mac, as far as it tells; an absence everywhere else."""
    try:
        module = importlib.import_module("zeus_apple_silicon")
    except Exception as error:  # noqa: BLE001 - a broken package must not take the meter along
        if not isinstance(error, ModuleNotFoundError):
            return [], [Absence("Apple silicon", "io", f"zeus_apple_silicon: {error}", _REMEDY)]
        where = "" if sys.platform == "darwin" else " (and this is not a Mac)"
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
