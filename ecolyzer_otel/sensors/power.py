"""Sensors of power, which is integrated to joules, and energy counters in a file.

The kernel's hwmon ABI (``hwmon/sysfs-interface``): ``power*_input`` and ``power*_average`` in uW, ``in*_input`` in
mV, ``curr*_input`` in mA, ``energy*_input`` in uJ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecolyzer_otel.sensors.base import Absence, Component, Reading, Sensor, SensorError, SensorInfo
from ecolyzer_otel.sensors.files import HeldFile
from ecolyzer_otel.sensors.integrate import LONGEST_GAP_SECONDS, PowerIntegral
from ecolyzer_otel.sensors.thermal import CpuThermal

__all__ = ["Clock", "FileEnergy", "PowerSensor", "Rail", "opened", "power_info"]

Clock = Callable[[], int]

_PERMISSION: Final = (
    "give the service's group read access (udev rule or chmod), or run the node agent (ecolyzer agent)"
)
_ABSENT: Final = "load the driver again"


@dataclass(frozen=True, slots=True)
class Rail:
    """One power: the product of its files times ``scale``, in watts.

    ``(power1_input,)`` with 1e-6, or ``(in1_input, curr1_input)`` with 1e-6, because mV times mA is uW.
    """

    files: tuple[HeldFile, ...]
    scale: float

    @classmethod
    def of(cls, scale: float, *paths: Path) -> Rail:
        """Returns the rail of the files at ``paths``."""
        return cls(tuple(HeldFile(path, 32) for path in paths), scale)

    def watts(self) -> float:
        """Returns the power now.

        Raises:
            SensorError: ``permission``, ``absent`` or ``io``.
        """
        product = self.scale
        for file in self.files:
            product *= _number(file)
        return product

    def close(self) -> None:
        """Close the descriptors."""
        for file in self.files:
            file.close()


def _number(file: HeldFile) -> int:
    try:
        return int(file.read())
    except OSError as error:
        raise SensorError.from_os(error, file.path, permission=_PERMISSION, absent=_ABSENT) from error
    except ValueError as error:
        raise SensorError("io", f"{file.path}: no number in it", "see the kernel log (dmesg)") from error


class PowerSensor(Sensor):
    """The energy of rails that do not overlap, integrated from the first read on (trapezoidal rule)."""

    def __init__(
        self,
        rails: Sequence[Rail],
        info: SensorInfo,
        thermal: CpuThermal | None = None,
        clock: Clock = time.monotonic_ns,
    ) -> None:
        self._rails = tuple(rails)
        self._info = info
        self._thermal = thermal
        self._clock = clock
        self._integral = PowerIntegral()

    @property
    def info(self) -> SensorInfo:
        """The properties of the sensor."""
        return self._info

    def read(self) -> Reading:
        """Returns the joules since the first read.

        Raises:
            SensorError: ``permission``, ``absent`` or ``io``; the time until the next success is a gap.
        """
        watts = sum(rail.watts() for rail in self._rails)
        t_ns = self._clock()
        return Reading(t_ns, self._integral.add(t_ns, watts))

    def celsius(self) -> float | None:
        """Returns the temperature in degrees Celsius, None if unknown."""
        return None if self._thermal is None else self._thermal.celsius()

    def faults(self) -> Mapping[str, int]:
        """Returns ``gap``: the number of reads that were too far apart to be integrated."""
        return {"gap": self._integral.gaps} if self._integral.gaps else {}

    def close(self) -> None:
        """Close the descriptors."""
        for rail in self._rails:
            rail.close()
        if self._thermal is not None:
            self._thermal.close()


class FileEnergy(Sensor):
    """An energy counter in a file, in microjoules (``energy*_input``)."""

    def __init__(
        self,
        path: Path,
        info: SensorInfo,
        thermal: CpuThermal | None = None,
        clock: Clock = time.monotonic_ns,
    ) -> None:
        self._file = HeldFile(path, 32)
        self._info = info
        self._thermal = thermal
        self._clock = clock

    @property
    def info(self) -> SensorInfo:
        """The properties of the sensor."""
        return self._info

    def read(self) -> Reading:
        """Returns the counter in joules.

        Raises:
            SensorError: ``permission``, ``absent``, ``io``, or ``range`` below 0.
        """
        joules = _number(self._file) * 1e-6
        if joules < 0:
            raise SensorError("range", f"{self._file.path}: {joules:g} J is below 0", "see the kernel log (dmesg)")
        return Reading(self._clock(), joules)

    def celsius(self) -> float | None:
        """Returns the temperature in degrees Celsius, None if unknown."""
        return None if self._thermal is None else self._thermal.celsius()

    def close(self) -> None:
        """Close the descriptors."""
        self._file.close()
        if self._thermal is not None:
            self._thermal.close()


def opened(sensors: Sequence[Sensor], family: str) -> tuple[list[Sensor], list[Absence]]:
    """Returns the sensors that can be read, and the absences of the others, which are closed."""
    found: list[Sensor] = []
    absences: list[Absence] = []
    for sensor in sensors:
        try:
            sensor.read()
        except SensorError as error:
            sensor.close()
            absences.append(Absence.of(f"{family} {sensor.info.id}", error))
        else:
            found.append(sensor)
    return found, absences


def power_info(
    identity: str,
    component: Component,
    description: str,
    period: float,
    uncertainty: float,
    thermal: CpuThermal | None = None,
) -> SensorInfo:
    """Returns the properties of a sensor that integrates power. ``period`` is in seconds."""
    return SensorInfo(
        id=identity,
        component=component,
        method="measured",
        description=description,
        temperature_limit_celsius=thermal.limit_celsius if thermal else None,
        update_period_seconds=period,
        relative_uncertainty=uncertainty,
        longest_gap_seconds=LONGEST_GAP_SECONDS,
    )
