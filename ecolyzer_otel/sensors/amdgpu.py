"""AMD GPUs from the files of the kernel's amdgpu driver (kernel document ``gpu/amdgpu/thermal``).

``power1_average`` or ``power1_input`` in uW, ``energy1_input`` in uJ where there is one, ``temp1_input`` in
millidegrees, ``power1_cap`` in uW, and the device's ``gpu_busy_percent``. An APU has no ``power1_cap`` (only MI300A
has): its power is that of the whole processor, which RAPL counts already, so it is not read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ecolyzer_otel.sensors.base import Absence, Reading, Sensor, SensorError, SensorInfo, Usage
from ecolyzer_otel.sensors.files import HeldFile, hwmon_chips, read_int, read_text
from ecolyzer_otel.sensors.integrate import CheckedEnergy
from ecolyzer_otel.sensors.nvml_usage import DeviceBusy
from ecolyzer_otel.sensors.power import Rail, opened
from ecolyzer_otel.sensors.thermal import CpuThermal

__all__ = ["AmdgpuFiles", "open_amdgpu"]

_MICRO: Final = 1e-6
_UNCERTAINTY: Final = 0.10


class AmdgpuFiles(Sensor):
    """One AMD GPU. ``folder`` is its hwmon chip."""

    def __init__(self, folder: Path, info: SensorInfo, clock: Callable[[], int]) -> None:
        self._info = info
        self._clock = clock
        self._energy = CheckedEnergy()
        self._busy = DeviceBusy()
        self._load = HeldFile(folder / "device/gpu_busy_percent", 32)
        self._thermal = CpuThermal(folder / "temp1_input")
        # A rail is a file's number times a scale, which fits both.
        self._counter = _rail(folder, "energy1_input")
        self._power = _rail(folder, "power1_average") or _rail(folder, "power1_input")

    @property
    def info(self) -> SensorInfo:
        """The properties of the sensor; its uncertainty grows once power has to be integrated."""
        self._info = self._energy.revised(self._info)
        return self._info

    def read(self) -> Reading:
        """Returns the joules of the counter, or those integrated since the first read.

        Raises:
            SensorError: ``permission``, ``absent`` or ``io``.
        """
        watts = self._power.watts() if self._power and self._energy.wants_power else None
        counter = self._counter.watts() if self._counter and self._energy.wants_counter else None
        t_ns = self._clock()
        joules = self._energy.add(t_ns, counter, watts)
        if joules is None:
            problem = f"{self._info.description}: the driver reports neither energy nor power"
            raise SensorError("absent", problem, "no action is possible")
        try:
            self._busy.add_rate(t_ns, float(self._load.read()))
        except (OSError, ValueError):
            self._busy.utilization = None
        return Reading(t_ns, joules, self._busy.utilization)

    def celsius(self) -> float | None:
        """Returns the edge temperature in degrees Celsius, None if unknown."""
        return self._thermal.celsius()

    def usage(self) -> Usage | None:
        """Returns the busy time of the GPU; that of processes is unknown."""
        return None if self._busy.seconds is None else Usage(self._busy.seconds)

    def faults(self) -> Mapping[str, int]:
        """Returns ``counter_stuck`` or ``counter_implausible`` if power contradicts the counter; ``gap``."""
        return self._energy.faults()

    def close(self) -> None:
        """Close the descriptors."""
        self._load.close()
        self._thermal.close()
        for rail in (self._counter, self._power):
            if rail is not None:
                rail.close()


def _rail(folder: Path, name: str) -> Rail | None:
    return Rail.of(_MICRO, folder / name) if (folder / name).exists() else None


def open_amdgpu(
    sysfs: str | Path = "/sys", first: int = 0, clock: Callable[[], int] = time.monotonic_ns
) -> tuple[list[Sensor], list[Absence]]:
    """Returns the discrete AMD GPUs in sysfs that can be read, and the absences of the others."""
    sensors: list[Sensor] = []
    apus: list[Absence] = []
    for name, chip in hwmon_chips(Path(sysfs)):
        if name != "amdgpu":
            continue
        cap = read_int(chip / "power1_cap")
        if cap is None:
            message = "its power is that of the whole processor (APU)"
            remedy = "no action is needed: the processor's sensor includes it"
            apus.append(Absence(f"AMD {chip.name}", "absent", message, remedy))
        else:
            sensors.append(AmdgpuFiles(chip, _describe(chip, first + len(sensors), cap), clock))
    found, absences = opened(sensors, "AMD")
    return found, [*apus, *absences]


def _describe(chip: Path, number: int, cap: int) -> SensorInfo:
    critical = read_int(chip / "temp1_crit")
    unique = read_text(chip / "device/unique_id")
    return SensorInfo(
        id=f"gpu{number}",
        component="gpu",
        method="measured",
        description=f"amdgpu gpu{number}",
        power_limit_watts=cap * _MICRO if cap > 0 else None,
        temperature_limit_celsius=critical / 1000.0 if critical and critical > 0 else None,
        update_period_seconds=0.1,
        relative_uncertainty=_UNCERTAINTY,
        uuid=f"GPU-{unique}" if unique else None,  # as HIP and torch name it
    )
