"""The temperature of a processor package and the temperature at which it protects itself.

Sources in order: hwmon chips that are processors, thermal zones that are processors, and psutil where there is no
sysfs at all. psutil comes last because on Linux it reads the same files, and because its fallback takes every
thermal zone for a processor, also the ACPI zone of a mainboard.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import psutil

from ecolyzer_otel.sensors.files import HeldFile, read_int, read_text

__all__ = ["CpuThermal", "find_cpu_thermal"]

#: hwmon ``name`` of processor temperature drivers; other chips (nvme, battery, mainboard) are not the processor.
_CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "k8temp", "cpu_thermal", "soc_thermal", "via_cputemp")
#: Best first. Tctl of some Ryzens is Tdie plus an offset for the fan control.
_AMD_LABELS = ("Tdie", "Tctl")
_ZONE_TYPES = re.compile(r"x86_pkg_temp|cpu[-_]?\d*[-_]?thermal.*")
#: Outside of this range a sensor is broken or asleep (hwmon then returns -273 or 0x7f…).
_PLAUSIBLE_CELSIUS = (-40.0, 150.0)


class CpuThermal:
    """One temperature: from a kernel file, from a function, or unknown. Never raises."""

    def __init__(
        self,
        path: Path | None = None,
        limit_celsius: float | None = None,
        function: Callable[[], float | None] | None = None,
    ) -> None:
        self.limit_celsius = limit_celsius
        self._file = HeldFile(path, 32) if path is not None else None
        self._function = function

    def celsius(self) -> float | None:
        """Returns the present temperature in degrees Celsius, None if unknown."""
        try:
            if self._file is not None:
                value: float | None = int(self._file.read()) / 1000.0
            else:
                value = self._function() if self._function is not None else None
        except (OSError, ValueError, RuntimeError):
            return None
        low, high = _PLAUSIBLE_CELSIUS
        return value if value is not None and low <= value <= high else None

    def close(self) -> None:
        """Close the descriptor."""
        if self._file is not None:
            self._file.close()


def find_cpu_thermal(sysfs: str | Path = "/sys", package: int = 0) -> CpuThermal:
    """Returns the thermometer of processor package ``package``; if there is none, one that returns None."""
    root = Path(sysfs)
    found = _from_hwmon(root, package) or _from_zones(root, package)
    if found is None and str(root) == "/sys":
        found = _from_psutil(package)
    return found or CpuThermal()


def _numbered(folder: Path, pattern: str) -> list[Path]:
    """Entries in the order of their numbers (hwmon10 after hwmon2)."""
    try:
        entries = [entry for entry in folder.iterdir() if re.fullmatch(pattern, entry.name)]
    except OSError:
        return []
    return sorted(entries, key=lambda entry: int("".join(filter(str.isdigit, entry.name)) or 0))


def _from_hwmon(root: Path, package: int) -> CpuThermal | None:
    chips = [
        chip
        for chip in _numbered(root / "class/hwmon", r"hwmon\d+")
        if (read_text(chip / "name") or "").startswith(_CPU_CHIPS)
    ]
    labels = [_labels(chip) for chip in chips]
    name = f"Package id {package}"
    entry = next((own[name] for own in labels if name in own), None)
    if entry is None and package < len(chips):
        # One chip per socket, without a package in its labels: the chips are in the order of the sockets.
        own = labels[package]
        named = [own[label] for label in _AMD_LABELS if label in own]
        entry = next(iter(named or _inputs(chips[package])), None)
    return None if entry is None else CpuThermal(entry, _hwmon_limit(entry))


def _inputs(chip: Path) -> list[Path]:
    return _numbered(chip, r"temp\d+_input")


def _labels(chip: Path) -> dict[str, Path]:
    return {read_text(str(entry).replace("_input", "_label")) or "": entry for entry in _inputs(chip)}


def _hwmon_limit(entry: Path) -> float | None:
    for suffix in ("_crit", "_max"):
        value = read_int(str(entry).replace("_input", suffix))
        if value is not None and value > 0:
            return value / 1000.0
    return None


def _from_zones(root: Path, package: int) -> CpuThermal | None:
    zones = [
        zone
        for zone in _numbered(root / "class/thermal", r"thermal_zone\d+")
        if _ZONE_TYPES.fullmatch(read_text(zone / "type") or "")
    ]
    if not zones:
        return None
    zone = zones[package] if package < len(zones) else zones[0]
    limit = None
    for kind in _numbered(zone, r"trip_point_\d+_type"):
        if read_text(kind) == "critical":
            limit = read_int(str(kind).replace("_type", "_temp"))
    return CpuThermal(zone / "temp", limit / 1000.0 if limit and limit > 0 else None)


def _from_psutil(package: int) -> CpuThermal | None:
    sensors = getattr(psutil, "sensors_temperatures", None)  # absent on macOS and Windows

    def pick() -> tuple[float | None, float | None]:
        for chip, entries in sensors().items() if sensors is not None else ():
            if chip.startswith(_CPU_CHIPS) and entries:
                named = [entry for entry in entries if entry.label == f"Package id {package}"]
                best = (named or entries)[0]
                return best.current, best.critical or best.high
        return None, None

    try:
        current, limit = pick()
    except (OSError, RuntimeError):
        return None
    return None if current is None else CpuThermal(limit_celsius=limit, function=lambda: pick()[0])
