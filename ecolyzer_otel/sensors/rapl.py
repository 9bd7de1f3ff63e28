"""RAPL counters of Intel and AMD processors through the kernel's powercap tree.

Layout (kernel document ``power/powercap/powercap``): zones ``intel-rapl:N``, named ``package-N`` (AMD's too) or
``psys``, with subzones ``intel-rapl:N:M`` named ``core``, ``uncore`` or ``dram``; ``energy_uj`` counts microjoules
up to ``max_energy_range_uj`` and restarts from 0 (``ledger/counter_wraps.py`` handles that).

Domains overlap: a package contains its core and uncore, psys contains the packages, and ``intel-rapl-mmio``
repeats package 0. Their sum would count joules twice, so only packages and DRAM are read.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from ecolyzer_otel.sensors.base import Absence, Component, Reading, Sensor, SensorError, SensorInfo
from ecolyzer_otel.sensors.files import HeldFile, read_int, read_text
from ecolyzer_otel.sensors.thermal import CpuThermal, find_cpu_thermal

__all__ = ["RaplSensor", "open_rapl"]

_ZONE = re.compile(r"intel-rapl:(\d+)(?::(\d+))?")
_PACKAGE = re.compile(r"package-(\d+)(?:-die-\d+)?")
_MICRO = 1e-6
#: Idle power of a package over its long-term limit, which is the design power by default: the value of Boavizta's
#: consumption profiles at 0 % load (:data:`~ecolyzer_otel.sensors.modelled.TDP_POINTS`).
_IDLE_PART = 0.12
#: The hardware updates the counter about every millisecond (Intel SDM vol. 3B, 15.10).
_UPDATE_PERIOD_SECONDS = 0.001
#: One standard uncertainty of RAPL's gain against an external meter: 2-3 %.
_RELATIVE_UNCERTAINTY = 0.03

_PERMISSION_REMEDY = (
    "RAPL is root-only since Linux 5.10 (CVE-2020-8694): run the node agent (ecolyzer agent), give the service's "
    "group read access to energy_uj (udev rule or chmod), give the service CAP_DAC_READ_SEARCH, or run it as root"
)
_ABSENT_REMEDY = (
    "no action is needed on cloud machines, which hide RAPL; on bare metal load the module intel_rapl_msr; in a "
    "container mount the host's /sys and set --sysfs to it"
)
_HIDDEN_REMEDY = (
    "the container runtime masks /sys/devices/virtual/powercap: run the node agent on the host, or mount the "
    "host's /sys read-only elsewhere (-v /sys:/host/sys:ro) and set --sysfs /host/sys"
)


@dataclass(frozen=True, slots=True)
class _Zone:
    """One zone to read."""

    folder: Path
    id: str
    component: Component
    package: int


class RaplSensor(Sensor):
    """One RAPL domain: a processor package, or the DRAM behind it."""

    def __init__(self, folder: Path, info: SensorInfo, thermal: CpuThermal | None = None) -> None:
        self._info = info
        self._folder = folder
        self._energy = HeldFile(folder / "energy_uj", 32)
        self._thermal = thermal

    @property
    def folder(self) -> Path:
        """The zone's folder in sysfs."""
        return self._folder

    @property
    def info(self) -> SensorInfo:
        """The properties of the sensor."""
        return self._info

    def read(self) -> Reading:
        """Returns the counter in joules (``energy_uj`` times 1e-6).

        Raises:
            SensorError: ``permission``, ``absent``, ``io``, or ``range`` for a value that the counter cannot hold.
        """
        try:
            data = self._energy.read()
            t_ns = time.monotonic_ns()
            joules = int(data) * _MICRO
        except OSError as error:
            raise SensorError.from_os(
                error, self._energy.path, permission=_PERMISSION_REMEDY, absent=_ABSENT_REMEDY
            ) from error
        except ValueError as error:
            raise SensorError(
                "io", f"{self._energy.path}: no number in it", "see the kernel log (dmesg)"
            ) from error
        wrap = self._info.wrap_joules
        if joules < 0 or (wrap is not None and joules > wrap):
            problem = f"{self._energy.path}: {joules:g} J is outside 0..{wrap or 0:g} J"
            raise SensorError("range", problem, "see the kernel log (dmesg)")
        return Reading(t_ns, joules)

    def celsius(self) -> float | None:
        """Returns the package temperature in degrees Celsius; None for DRAM or if unknown."""
        return None if self._thermal is None else self._thermal.celsius()

    def close(self) -> None:
        """Close the descriptors."""
        self._energy.close()
        if self._thermal is not None:
            self._thermal.close()


def open_rapl(sysfs: str | Path = "/sys") -> tuple[list[RaplSensor], list[Absence]]:
    """Returns the RAPL domains that do not overlap and can be read, and the absences of the others.

    Args:
        sysfs: root of the sysfs tree.

    Returns:
        Sensors in the order package-0, dram-0, package-1 …; absences with reason and remedy.
    """
    folders, absences = _zone_folders(Path(sysfs))
    if not folders and not absences:
        where = Path(sysfs) / "class/powercap"
        return [], [Absence("RAPL", "absent", f"no RAPL zone under {where}", _ABSENT_REMEDY)]
    hidden = [path for path in folders.values() if not path.exists()]
    if hidden:
        absences.append(
            Absence("RAPL", "permission", f"{hidden[0]} is listed but hidden in this container", _HIDDEN_REMEDY)
        )
    zones = _select(folders)
    if not zones and not absences:
        message = f"no zone under {sysfs} is a package ({', '.join(folders)})"
        absences.append(Absence("RAPL", "absent", message, _ABSENT_REMEDY))
    sensors = []
    for zone in zones:
        sensor = _open_zone(zone, Path(sysfs))
        try:
            sensor.read()
        except SensorError as error:
            sensor.close()
            absences.append(Absence.of(f"RAPL {zone.id}", error))
        else:
            sensors.append(sensor)
    return sensors, absences


def _zone_folders(sysfs: Path) -> tuple[dict[str, Path], list[Absence]]:
    """The folder of every zone by its name. The class folder lists zones flat, the device folder nested."""
    found: dict[str, Path] = {}
    absences: list[Absence] = []

    def collect(folder: Path, depth: int) -> None:
        try:
            entries = sorted(folder.iterdir())
        except PermissionError:
            absences.append(
                Absence("RAPL", "permission", f"{folder}: permission to list it denied", _PERMISSION_REMEDY)
            )
            return
        except OSError:
            return
        for entry in entries:
            is_zone = _ZONE.fullmatch(entry.name) is not None
            if is_zone and (entry.name not in found or not found[entry.name].exists()):
                found[entry.name] = entry
            if depth and (is_zone or entry.name == "intel-rapl"):
                collect(entry, depth - 1)

    for base in ("class/powercap", "devices/virtual/powercap"):
        collect(sysfs / base, 2)
    # By number: intel-rapl:10 comes after intel-rapl:2, and a child right after its package.
    ordered = sorted(found, key=lambda name: [int(part) for part in name.split(":")[1:]])
    return {name: found[name] for name in ordered}, absences


def _select(folders: dict[str, Path]) -> list[_Zone]:
    """The packages and their DRAM; no zone that contains or repeats another."""
    names = {key: read_text(folder / "name") or "" for key, folder in folders.items()}
    zones: dict[str, _Zone] = {}
    for key, folder in folders.items():
        parent = names.get(key.rpartition(":")[0], "")
        is_child = key.count(":") > 1
        package = _PACKAGE.fullmatch(parent if is_child else names[key])
        if package is None or (is_child and names[key] != "dram"):
            continue
        identity = package[0].replace("package", "dram") if is_child else package[0]
        if identity in zones:  # two zones with one name (old kernels on several dies) are both used
            identity = f"{identity}-zone-{key.partition(':')[2].replace(':', '-')}"
        zones[identity] = _Zone(folder, identity, "dram" if is_child else "cpu", int(package[1]))
    return list(zones.values())


def _open_zone(zone: _Zone, sysfs: Path) -> RaplSensor:
    thermal = find_cpu_thermal(sysfs, zone.package) if zone.component == "cpu" else None
    wrap = read_int(zone.folder / "max_energy_range_uj")
    limit = _constraint(zone.folder, "long_term", "power_limit_uw")
    info = SensorInfo(
        id=zone.id,
        component=zone.component,
        method="measured",
        description=f"RAPL {zone.id}",
        wrap_joules=wrap * _MICRO if wrap else None,
        idle_prior_watts=_IDLE_PART * limit if limit and zone.component == "cpu" else None,
        power_limit_watts=limit,
        peak_watts=_peak(zone.folder),
        temperature_limit_celsius=thermal.limit_celsius if thermal else None,
        update_period_seconds=_UPDATE_PERIOD_SECONDS,
        relative_uncertainty=_RELATIVE_UNCERTAINTY,
    )
    return RaplSensor(zone.folder, info, thermal)


def _constraint(folder: Path, name: str, what: str) -> float | None:
    """Watts of one of the zone's constraints: ``long_term`` (PL1) or ``short_term`` (PL2); None if unknown."""
    for index in range(4):
        if read_text(folder / f"constraint_{index}_name") == name:
            microwatts = read_int(folder / f"constraint_{index}_{what}")
            return microwatts * _MICRO if microwatts and microwatts > 0 else None
    return None


def _peak(folder: Path) -> float | None:
    """Watts that the zone may draw for seconds (PL2, far above PL1 on laptops), or for long once PL1 is raised."""
    limits = (
        _constraint(folder, "short_term", "power_limit_uw"),
        _constraint(folder, "long_term", "max_power_uw"),
        _constraint(folder, "long_term", "power_limit_uw"),
    )
    return max((watts for watts in limits if watts is not None), default=None)
