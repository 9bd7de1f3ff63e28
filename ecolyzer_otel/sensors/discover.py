"""Finds the sensors of this machine. Each family is tried once; an unused sensor is reported with its reason.

Nothing is counted twice. A processor is measured by the first family that has it: RAPL, Apple, hwmon. A GPU is
measured by its vendor's library, or by a Jetson's rail where there is none. A meter of the whole server contains
everything, and is used only where there is no other sensor. A processor without a sensor is modelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ecolyzer_otel.common.config import Config
from ecolyzer_otel.sensors.amd import open_amd
from ecolyzer_otel.sensors.apple import open_apple
from ecolyzer_otel.sensors.base import Absence, Sensor
from ecolyzer_otel.sensors.cpuinfo import provider, read_cpuinfo
from ecolyzer_otel.sensors.hardware import HardwareTable
from ecolyzer_otel.sensors.hostcpu import HostCpu, Scope
from ecolyzer_otel.sensors.hwmon import find_power
from ecolyzer_otel.sensors.ipmi import open_ipmi
from ecolyzer_otel.sensors.modelled import ModelledCpu, power_model
from ecolyzer_otel.sensors.nvml import open_nvml
from ecolyzer_otel.sensors.rapl import open_rapl
from ecolyzer_otel.sensors.replay import load_recording
from ecolyzer_otel.sensors.thermal import find_cpu_thermal

__all__ = ["Discovery", "discover"]

#: The families of ``auto``. IPMI is not one of them, because it starts processes.
_AUTO = frozenset({"rapl", "nvml", "amd", "apple", "hwmon"})


@dataclass(frozen=True, slots=True)
class Discovery:
    """The sensors of this machine, and the CPU time that matches them.

    Attributes:
        sensors: the sensors to read.
        absences: the sensors that are not used, with reasons.
        host: the CPU time of the CPU sensor's scope: that of the host for a RAPL package, that of the control group
            for a model of the group's CPUs.
    """

    sensors: tuple[Sensor, ...]
    absences: tuple[Absence, ...]
    host: HostCpu

    def describe(self) -> str:
        """Returns one human-readable line: ``RAPL package-0, dram-0``, or ``no sensor: modelled from …``."""
        if not self.sensors:
            return "nothing (no sensor and --sensors none)"
        if all(isinstance(sensor, ModelledCpu) for sensor in self.sensors):
            return f"no sensor: {self.sensors[0].info.description}"
        parts: list[str] = []
        for sensor in self.sensors:
            text = sensor.info.description
            # The family's name appears once: "RAPL package-0, dram-0".
            family = text.removesuffix(sensor.info.id)
            repeated = family != text and any(part.startswith(family) for part in parts)
            parts.append(sensor.info.id if repeated else f"CPU {text}" if isinstance(sensor, ModelledCpu) else text)
        return ", ".join(parts)

    def close(self) -> None:
        """Close all descriptors."""
        for sensor in self.sensors:
            sensor.close()
        self.host.close()


def discover(
    config: Config,
    *,
    procfs: str | Path = "/proc",
    cgroupfs: str | Path = "/sys/fs/cgroup",
    devfs: str | Path = "/dev",
    scope: Scope | None = None,
) -> Discovery:
    """Find the sensors that ``config.sensors`` names, under ``config.sysfs``.

    ``auto`` uses every sensor that does not count joules twice; a list of families (``rapl,nvml``) uses only those.
    Both model the CPU if no sensor of it can be read, so that unknown does not become zero. ``modelled`` uses only
    the model, ``none`` uses no sensor, and ``replay:FILE`` plays a recording.

    Args:
        config: the settings.
        procfs: root of procfs.
        cgroupfs: root of the control groups. It is separate from ``config.sysfs``, because the limits of this
            process apply whichever tree its counters are read from.
        devfs: root of the device nodes, which show whether there is a GPU.
        scope: ``host`` for a meter that serves the whole node (the agent), whose own control group is not that of
            its services; None to let the sensors and the control group decide.

    Raises:
        ConfigError: a recording cannot be used. Nothing else is raised.
    """
    if config.sensors.startswith("replay:"):
        recorded = load_recording(config.sensors.removeprefix("replay:"))
        return Discovery(recorded, (), HostCpu(procfs, cgroupfs, scope="host"))
    if config.sensors == "none":
        return Discovery((), (), HostCpu(procfs, cgroupfs, scope=scope))
    named = frozenset(config.sensors.split(",")) - {"auto"}
    search = _Search(config.sysfs, Path(devfs), named)
    # A container may have the host's procfs beside the host's sysfs (/host/proc, --sysfs /host/sys).
    beside = Path(config.sysfs).parent / "proc"
    search.run(named or _AUTO, beside if (beside / "self").exists() else procfs)
    absences = tuple(search.absences)
    if search.has("cpu"):
        return Discovery(tuple(search.sensors), absences, HostCpu(procfs, cgroupfs, scope="host"))
    absences = tuple(_without_rapl(absence) if "rapl" in named else absence for absence in absences)
    # DRAM without its package is not used, because the model includes it.
    kept = search.keep(lambda sensor: sensor.info.component != "dram")
    host = HostCpu(procfs, cgroupfs, scope=scope)
    model = power_model(read_cpuinfo(procfs), host, HardwareTable.load(), provider(config.sysfs))
    return Discovery((*kept, ModelledCpu(host, model, find_cpu_thermal(config.sysfs))), absences, host)


class _Search:
    """Collects sensors family by family."""

    def __init__(self, sysfs: str, devfs: Path, named: frozenset[str]) -> None:
        self.sensors: list[Sensor] = []
        self.absences: list[Absence] = []
        self._sysfs = sysfs
        self._devfs = devfs
        self._named = named

    def run(self, families: frozenset[str], procfs: str | Path) -> None:
        """Search the families, best first."""
        if "rapl" in families:
            rapl, absences = open_rapl(self._sysfs)
            self._take(rapl)
            self._note_absences("rapl", absences)
        if "nvml" in families:
            nvidia, absences = open_nvml(procfs)
            self._take(nvidia)
            self._note_absences("nvml", absences, self._devfs / "nvidiactl")
        if "amd" in families:
            taken = [int(sensor.info.id[3:]) + 1 for sensor in self.sensors if sensor.info.component == "gpu"]
            amd, absences = open_amd(self._sysfs, max(taken, default=0))
            self._take(amd)
            self._note_absences("amd", absences, self._devfs / "kfd")
        if "apple" in families:
            apple, absences = open_apple()
            self._take_missing(apple)
            self._note_absences("apple", absences)
        if "hwmon" in families:
            self._search_hwmon()
        if "ipmi" in families and not self.sensors:
            ipmi, absences = open_ipmi()
            self._take(ipmi)
            self._note_absences("ipmi", absences)

    def has(self, component: str) -> bool:
        """Whether a sensor of ``component`` was found."""
        return any(sensor.info.component == component for sensor in self.sensors)

    def keep(self, wanted: Callable[[Sensor], bool]) -> list[Sensor]:
        """Returns the sensors that are wanted; the others are closed."""
        for sensor in self.sensors:
            if not wanted(sensor):
                sensor.close()
        return [sensor for sensor in self.sensors if wanted(sensor)]

    def _search_hwmon(self) -> None:
        found = find_power(self._sysfs)
        self._take_missing(found.parts)
        total = [found.total] if found.total else []
        if self.sensors:  # it contains them
            for sensor in total:
                sensor.close()
        else:
            self._take(total)
        self._note_absences("hwmon", found.absences)
        if "hwmon" in self._named and not (found.parts or total or found.absences):
            message = f"no power sensor under {self._sysfs}/class/hwmon"
            self._note_absences("hwmon", [Absence("hwmon", "absent", message, "no action is needed")])

    def _take(self, sensors: Iterable[Sensor]) -> None:
        self.sensors += sensors

    def _take_missing(self, sensors: Iterable[Sensor]) -> None:
        """Take the sensors of components that no earlier family has; the others are closed."""
        before = {sensor.info.component for sensor in self.sensors}
        for sensor in sensors:
            if sensor.info.component in before:
                sensor.close()
            else:
                self.sensors.append(sensor)

    def _note_absences(self, family: str, absences: Iterable[Absence], node: Path | None = None) -> None:
        """Keep the absences of a family that the user named, whose hardware is present, or that are a fault."""
        for absence in absences:
            named = family in self._named
            expected = named or absence.expected or (node is not None and node.exists())
            # A missing RAPL is kept in any case: it is the reason why the CPU is modelled.
            if expected or absence.reason != "absent" or family == "rapl":
                self.absences.append(replace(absence, expected=expected))


def _without_rapl(absence: Absence) -> Absence:
    """The absence of RAPL, which the user named, with a note that the CPU is modelled instead."""
    if not absence.name.startswith("RAPL"):
        return absence
    return replace(absence, message=f"{absence.message} (--sensors rapl: the CPU is modelled instead)")
