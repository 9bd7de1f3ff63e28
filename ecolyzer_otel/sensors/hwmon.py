"""Power sensors in sysfs: NVIDIA Jetson and Grace, processors without RAPL, whole-server power meters.

Rails overlap: VDD_IN of a Jetson contains its CPU and GPU rails, a Grace module contains its Grace socket, which
contains the CPU and SysIO rails, and a server's meter contains everything. No sensor that is used contains another.

* Jetson: see ``jetson.py``.
* Grace: ACPI power meters, identified by ``power1_oem_info`` (NVIDIA Grace performance tuning guide, "Power and
  thermals"). Grace Power is CPU, SysIO, DRAM and the losses of the regulators.
* ``amd_energy`` (Linux 5.8-5.12), ``zenpower``, ``fam15h_power``, ``apm_xgene``: processors.
* ``power_meter`` (ACPI 4.0, ``hwmon/acpi_power_meter``) of a whole server, with its power supply and fans.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ecolyzer_otel.sensors.base import Absence, Sensor, SensorInfo
from ecolyzer_otel.sensors.files import hwmon_chips, read_int, read_text
from ecolyzer_otel.sensors.jetson import jetson_parts, jetson_total
from ecolyzer_otel.sensors.power import Clock, FileEnergy, PowerSensor, Rail, opened, power_info
from ecolyzer_otel.sensors.thermal import find_cpu_thermal

__all__ = ["PowerSensors", "find_power"]

_MICRO: Final = 1e-6
_GRACE: Final = re.compile(r"(Module|Grace|CPU|SysIO) Power Socket (\d+)")
#: Firmware of other Grace platforms.
_GRACE_OTHER: Final = re.compile(r"(Total|CPU Rail|SoC Rail)(?: Input)? Power in uW socket (\d+)", re.IGNORECASE)
_GRACE_NAMES: Final = {"total": "Grace", "cpu rail": "CPU", "soc rail": "SysIO"}
_GRACE_UNCERTAINTY: Final = 0.05

#: hwmon name -> power files that add up to the processor, in uW.
_CPU_CHIPS: Final = {
    "zenpower": ("power1_input", "power2_input"),  # SVI2 core and SoC
    "fam15h_power": ("power1_input",),
    "apm_xgene": ("power1_input", "power2_input"),  # CPU and IO
}
_CPU_POWER_UNCERTAINTY: Final = 0.1
_ENERGY_UNCERTAINTY: Final = 0.03
#: A server's meter is accurate for the server (2 %), but it includes the power supply, fans and disks.
_SERVER_UNCERTAINTY: Final = 0.2


@dataclass(slots=True)
class PowerSensors:
    """The power sensors in sysfs.

    Attributes:
        parts: sensors of components; none contains another.
        total: a meter of the whole module or server, to be used only where there is no other sensor.
        absences: sensors that exist but cannot be read.
    """

    parts: list[Sensor] = field(default_factory=list)
    total: Sensor | None = None
    absences: list[Absence] = field(default_factory=list)

    def add(self, sensors: list[Sensor], family: str) -> None:
        """Add the sensors that can be read, and the absences of the others."""
        found, absences = opened(sensors, family)
        self.parts += found
        self.absences += absences


def find_power(sysfs: str | Path = "/sys", clock: Clock = time.monotonic_ns) -> PowerSensors:
    """Returns the power sensors under ``sysfs`` that can be read."""
    root = Path(sysfs)
    found = PowerSensors()
    found.add(jetson_parts(root, clock), "Jetson")
    found.add(_grace(root, clock), "Grace")
    if not any(sensor.info.component == "cpu" for sensor in found.parts):
        found.add(_processors(root, clock), "hwmon")
    if not found.parts:
        totals = [*jetson_total(root, clock), *_grace_modules(root, clock), *_server(root, clock, found.absences)]
        usable, absences = opened(totals, "power meter")
        found.absences += absences
        found.total = next(iter(usable), None)
        for sensor in usable[1:]:
            sensor.close()
    return found


def _at(chip: Path, name: str) -> Path:
    """The path of a chip's file, which is in its own folder or in its device's."""
    return chip / name if (chip / name).exists() else chip / "device" / name


# Grace.


def _grace_meters(root: Path) -> dict[tuple[str, int], Path]:
    """The power meters of Grace, by what they measure and by socket."""
    meters: dict[tuple[str, int], Path] = {}
    for _, chip in hwmon_chips(root):
        label = read_text(_at(chip, "power1_oem_info")) or ""
        if match := _GRACE.search(label):
            meters.setdefault((match[1], int(match[2])), chip)
        elif match := _GRACE_OTHER.search(label):
            meters.setdefault((_GRACE_NAMES[match[1].lower()], int(match[2])), chip)
    return meters


def _grace(root: Path, clock: Clock) -> list[Sensor]:
    """For each socket, the total of Grace, or its two rails where there is no total."""
    meters = _grace_meters(root)
    sensors: list[Sensor] = []
    for socket in sorted({number for _, number in meters}):
        parts = ("Grace",) if ("Grace", socket) in meters else ("CPU", "SysIO")
        for part in parts:
            if (part, socket) in meters:
                chip = meters[part, socket]
                sensors.append(_meter(chip, f"{part.lower()}-{socket}", f"Grace {part} power", clock))
    return sensors


def _grace_modules(root: Path, clock: Clock) -> list[Sensor]:
    modules = [(socket, chip) for (part, socket), chip in _grace_meters(root).items() if part == "Module"]
    if len(modules) != 1:  # several modules would need one sensor for all
        return []
    socket, chip = modules[0]
    return [_meter(chip, f"module-{socket}", "Grace module power (with GPU)", clock)]


def _meter(chip: Path, identity: str, description: str, clock: Clock) -> Sensor:
    interval = read_int(_at(chip, "power1_average_interval"))
    info = power_info(
        identity, "cpu", f"{description} {identity}", interval / 1000.0 if interval else 1.0, _GRACE_UNCERTAINTY
    )
    return PowerSensor([Rail.of(_MICRO, _at(chip, "power1_average"))], info, clock=clock)


# Processors and servers.


def _processors(root: Path, clock: Clock) -> list[Sensor]:
    sensors: list[Sensor] = []
    for name, chip in hwmon_chips(root):
        number = len(sensors)
        if name == "amd_energy":
            sensors += _amd_energy(chip, root, clock, number)
        elif name in _CPU_CHIPS:
            rails = [Rail.of(_MICRO, chip / file) for file in _CPU_CHIPS[name] if (chip / file).exists()]
            if rails:
                thermal = find_cpu_thermal(root, number)
                identity = f"package-{number}"
                info = power_info(identity, "cpu", f"{name} {identity}", 0.1, _CPU_POWER_UNCERTAINTY, thermal)
                sensors.append(PowerSensor(rails, info, thermal, clock))
    return sensors


def _amd_energy(chip: Path, root: Path, clock: Clock, first: int) -> list[Sensor]:
    """The sockets (``Esocket0``), which contain the cores."""
    sensors: list[Sensor] = []
    for path in sorted(chip.glob("energy*_label")):
        match = re.fullmatch(r"Esocket(\d+)", read_text(path) or "")
        if match:
            identity = f"package-{first + int(match[1])}"
            thermal = find_cpu_thermal(root, int(match[1]))
            info = SensorInfo(
                id=identity,
                component="cpu",
                method="measured",
                description=f"amd_energy {identity}",
                temperature_limit_celsius=thermal.limit_celsius,
                update_period_seconds=0.001,
                relative_uncertainty=_ENERGY_UNCERTAINTY,
            )
            energy = path.with_name(path.name.replace("_label", "_input"))
            sensors.append(FileEnergy(energy, info, thermal, clock))
    return sorted(sensors, key=lambda sensor: sensor.info.id)


def _server(root: Path, clock: Clock, absences: list[Absence]) -> list[Sensor]:
    meters = [
        chip
        for name, chip in hwmon_chips(root)
        if name == "power_meter"
        and read_int(_at(chip, "power1_is_battery")) != 1
        and not (_GRACE.search(read_text(_at(chip, "power1_oem_info")) or ""))
    ]
    if len(meters) > 1:
        message = f"{len(meters)} power meters, and it is unknown whether one contains another"
        remedy = "no action is needed: the CPU is modelled instead"
        absences.append(Absence("power meter", "absent", message, remedy))
        return []
    sensors: list[Sensor] = []
    for chip in meters:
        interval = read_int(_at(chip, "power1_average_interval"))
        info = power_info(
            "server",
            "cpu",
            "ACPI power meter of the whole server (with power supply and fans)",
            interval / 1000.0 if interval else 1.0,
            _SERVER_UNCERTAINTY,
        )
        sensors.append(PowerSensor([Rail.of(_MICRO, _at(chip, "power1_average"))], info, clock=clock))
    return sensors
