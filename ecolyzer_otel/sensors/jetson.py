"""Power rails of NVIDIA Jetson modules, measured by their INA3221 monitors.

Layouts: ``hwmon`` chips named ``ina3221`` with ``in*_label`` (JetPack 5 and newer), or the older
``/sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*`` with ``in_power*_input`` in mW. Rails: NVIDIA Jetson
Linux developer guide, "Power and Performance", of each module.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal

from ecolyzer_otel.sensors.base import Component, Sensor
from ecolyzer_otel.sensors.files import hwmon_chips, read_text
from ecolyzer_otel.sensors.power import Clock, PowerSensor, Rail, power_info
from ecolyzer_otel.sensors.thermal import CpuThermal, find_cpu_thermal

__all__ = ["jetson_parts", "jetson_total"]

_MICRO: Final = 1e-6
_MILLI: Final = 1e-3
_Kind = Literal["cpu", "gpu", "dram", "soc", "cpu-gpu", "total"]

#: Rails of Jetson modules by label. Supplies of the carrier board and VIN_SYS_5V0, which feeds other rails, are not
#: listed and not read.
_RAILS: Final[dict[str, _Kind]] = {
    "VDD_IN": "total",  # TX2, Xavier NX, Orin NX, Orin Nano
    "POM_5V_IN": "total",  # Nano
    "VIN": "total",  # Thor
    "VDD_SYS_CPU": "cpu",
    "POM_5V_CPU": "cpu",
    "CPU": "cpu",  # AGX Xavier
    "VDD_CPU_CV": "cpu",  # AGX Orin: with the vision accelerators
    "VDD_CPU_SOC_MSS": "cpu",  # Thor
    "VDD_SYS_GPU": "gpu",
    "POM_5V_GPU": "gpu",
    "GPU": "gpu",
    "VDD_GPU_SOC": "gpu",  # AGX Orin: with the SoC fabric
    "VDD_GPU": "gpu",
    "VDD_CPU_GPU_CV": "cpu-gpu",  # Xavier NX, Orin NX, Orin Nano: one rail for both
    "VDD_SYS_SOC": "soc",
    "VDD_SOC": "soc",
    "SOC": "soc",
    "CV": "soc",
    "VDD_SYS_DDR": "dram",
    "VDDRQ": "dram",
    "VDDQ_VDD2_1V8AO": "dram",
}
_COMPONENTS: Final[dict[_Kind, Component]] = {
    "cpu": "cpu",
    "gpu": "gpu",
    "dram": "dram",
    "soc": "cpu",  # fabric and memory controller, which on other processors belong to the package (uncore)
    "cpu-gpu": "cpu",  # every request has CPU time, but not every request has kernels
    "total": "cpu",
}
_IDS: Final[dict[_Kind, str]] = {"gpu": "gpu0", "total": "module"}
#: INA3221: 1 % of shunt and gain, 40 mV/8 mA steps; more for a rail that feeds several components.
_UNCERTAINTY: Final[dict[_Kind, float]] = {"cpu-gpu": 0.1, "total": 0.2}
_UNCERTAINTY_ELSE: Final = 0.05
_PERIOD: Final = 0.1


def _rails(root: Path) -> list[tuple[str, Rail]]:
    rails: list[tuple[str, Rail]] = []
    for name, chip in hwmon_chips(root):
        for n in (1, 2, 3) if name.startswith("ina3221") else ():
            label = read_text(chip / f"in{n}_label")
            if label and (chip / f"power{n}_input").exists():
                rails.append((label, Rail.of(_MICRO, chip / f"power{n}_input")))
            elif label and (chip / f"curr{n}_input").exists():
                rails.append((label, Rail.of(_MICRO, chip / f"in{n}_input", chip / f"curr{n}_input")))
    if not rails:
        for path in sorted((root / "bus/i2c/drivers/ina3221x").glob("*/iio:device*/rail_name_*")):
            power = path.with_name(f"in_power{path.name.removeprefix('rail_name_')}_input")
            rails.append((read_text(path) or "", Rail.of(_MILLI, power)))
    return rails


def jetson_parts(root: Path, clock: Clock) -> list[Sensor]:
    """Returns one sensor for each rail of a component."""
    rails = [(label, rail) for label, rail in _rails(root) if _RAILS.get(label, "total") != "total"]
    sensors: list[Sensor] = []
    for label, rail in rails:
        kind = _RAILS[label]
        identity = _IDS.get(kind, kind)
        if any(sensor.info.id == identity for sensor in sensors):
            identity = f"{identity}-{label.lower()}"
        sensors.append(_sensor(label, rail, identity, root, clock))
    return sensors


def jetson_total(root: Path, clock: Clock) -> list[Sensor]:
    """Returns the sensor of the rail that feeds the module, if there is one."""
    totals = [(label, rail) for label, rail in _rails(root) if _RAILS.get(label) == "total"]
    return [_sensor(label, rail, "module", root, clock) for label, rail in totals[:1]]


def _sensor(label: str, rail: Rail, identity: str, root: Path, clock: Clock) -> Sensor:
    kind = _RAILS[label]
    thermal = _gpu_thermal(root) if kind == "gpu" else find_cpu_thermal(root) if kind != "dram" else None
    what = " (the whole module)" if kind == "total" else " (CPU and GPU together)" if kind == "cpu-gpu" else ""
    return PowerSensor(
        [rail],
        power_info(
            identity,
            _COMPONENTS[kind],
            f"Jetson {label}{what}",
            _PERIOD,
            _UNCERTAINTY.get(kind, _UNCERTAINTY_ELSE),
            thermal,
        ),
        thermal,
        clock,
    )


def _gpu_thermal(root: Path) -> CpuThermal | None:
    for zone in sorted((root / "class/thermal").glob("thermal_zone*")):
        if re.fullmatch(r"(?i)gpu[-_]?therm(al)?", read_text(zone / "type") or ""):
            return CpuThermal(zone / "temp")
    return None
