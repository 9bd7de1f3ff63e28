"""Which sensors this machine has: each family is tried once, and what is not used says why.

Nothing is counted twice. A processor is taken from the first family that has one: RAPL, Apple, hwmon. A GPU comes
from its vendor's library, or from a Jetson's rail where there is none. A meter of the whole server contains
everything and is used only where nothing finer is measured. Without any sensor of the processor, it is modelled.
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

#: What ``auto`` looks for. IPMI is not among them: it starts processes.
_AUTO = frozenset({"rapl", "nvml", "amd", "apple", "hwmon"})


@dataclass(frozen=True, slots=True)
class Discovery:
    """The sensors to read, what is missing, and the CPU time that fits these sensors.

    ``host`` has the scope of the CPU sensor: a RAPL package is compared with the busy time of the whole host, a
    model of a control group's CPUs with that of the group.
    """

    sensors: tuple[Sensor, ...]
    absences: tuple[Absence, ...]
    host: HostCpu

    def describe(self) -> str:
        """One line for people: ``RAPL package-0, dram-0``, or ``no sensor: modelled from …``."""
        if not self.sensors:
            return "nothing (no sensor and --sensors none)"
        if all(isinstance(sensor, ModelledCpu) for sensor in self.sensors):
            return f"no sensor: {self.sensors[0].info.description}"
        parts: list[str] = []
        for sensor in self.sensors:
            text = sensor.info.description
            # "RAPL package-0, dram-0": the family's name once.
            family = text.removesuffix(sensor.info.id)
            repeated = family != text and any(part.startswith(family) for part in parts)
            parts.append(sensor.info.id if repeated else f"CPU {text}" if isinstance(sensor, ModelledCpu) else text)
        return ", ".join(parts)

    def close(self) -> None:
        """Give every descriptor back."""
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
    """Find the sensors that ``config.sensors`` asks for under ``config.sysfs``.

    ``auto`` takes everything that can be had without counting joules twice, a list of families (``rapl,nvml``) only
    those; both model the CPU where no sensor of it can be read, so that unknown never becomes zero. ``modelled``
    looks for nothing; ``none`` gives no sensor; ``replay:FILE`` plays a recording.

    Args:
        config: the settings.
        procfs: root of procfs.
        cgroupfs: root of the control groups. Apart from ``config.sysfs``: this process' own limits hold
            whichever tree its counters are read from.
        devfs: where device nodes tell that there is a GPU.
        scope: ``host`` for a meter that serves the whole node (the agent), whose own control group says nothing
            about its services; None to let the sensors and the control group decide.

    Raises:
        ConfigError: when a recording cannot be used. Nothing else.
    """
    if config.sensors.startswith("replay:"):
        recorded = load_recording(config.sensors.removeprefix("replay:"))
        return Discovery(recorded, (), HostCpu(procfs, cgroupfs, scope="host"))
    if config.sensors == "none":
        return Discovery((), (), HostCpu(procfs, cgroupfs, scope=scope))
    named = frozenset(config.sensors.split(",")) - {"auto"}
    search = _Search(config.sysfs, Path(devfs), named)
    # The host's procfs, where a container has it beside the host's sysfs (/host/proc, --sysfs /host/sys).
    beside = Path(config.sysfs).parent / "proc"
    search.run(named or _AUTO, beside if (beside / "self").exists() else procfs)
    absences = tuple(search.absences)
    if search.has("cpu"):
        return Discovery(tuple(search.sensors), absences, HostCpu(procfs, cgroupfs, scope="host"))
    absences = tuple(_without_rapl(absence) if "rapl" in named else absence for absence in absences)
    # DRAM without its package: the model below stands for both.
    kept = search.keep(lambda sensor: sensor.info.component != "dram")
    host = HostCpu(procfs, cgroupfs, scope=scope)
    model = power_model(read_cpuinfo(procfs), host, HardwareTable.load(), provider(config.sysfs))
    return Discovery((*kept, ModelledCpu(host, model, find_cpu_thermal(config.sysfs))), absences, host)


class _Search:
    """Takes sensors family by family, each for what is not there yet."""

    def __init__(self, sysfs: str, devfs: Path, named: frozenset[str]) -> None:
        self.sensors: list[Sensor] = []
        self.absences: list[Absence] = []
        self._sysfs = sysfs
        self._devfs = devfs
        self._named = named

    def run(self, families: frozenset[str], procfs: str | Path) -> None:
        """Look for the families, best first."""
        if "rapl" in families:
            rapl, absences = open_rapl(self._sysfs)
            self._take(rapl)
            self._miss("rapl", absences)
        if "nvml" in families:
            nvidia, absences = open_nvml(procfs)
            self._take(nvidia)
            self._miss("nvml", absences, self._devfs / "nvidiactl")
        if "amd" in families:
            taken = [int(sensor.info.id[3:]) + 1 for sensor in self.sensors if sensor.info.component == "gpu"]
            amd, absences = open_amd(self._sysfs, max(taken, default=0))
            self._take(amd)
            self._miss("amd", absences, self._devfs / "kfd")
        if "apple" in families:
            apple, absences = open_apple()
            self._take_missing(apple)
            self._miss("apple", absences)
        if "hwmon" in families:
            self._look_at_hwmon()
        if "ipmi" in families and not self.sensors:
            ipmi, absences = open_ipmi()
            self._take(ipmi)
            self._miss("ipmi", absences)

    def has(self, component: str) -> bool:
        """Whether a sensor of ``component`` was found."""
        return any(sensor.info.component == component for sensor in self.sensors)

    def keep(self, wanted: Callable[[Sensor], bool]) -> list[Sensor]:
        """The sensors that are wanted; the others are closed."""
        for sensor in self.sensors:
            if not wanted(sensor):
                sensor.close()
        return [sensor for sensor in self.sensors if wanted(sensor)]

    def _look_at_hwmon(self) -> None:
        found = find_power(self._sysfs)
        self._take_missing(found.parts)
        whole = [found.whole] if found.whole else []
        if self.sensors:  # it contains them
            for sensor in whole:
                sensor.close()
        else:
            self._take(whole)
        self._miss("hwmon", found.absences)
        if "hwmon" in self._named and not (found.parts or whole or found.absences):
            message = f"no power sensor under {self._sysfs}/class/hwmon"
            self._miss("hwmon", [Absence("hwmon", "absent", message, "none is needed")])

    def _take(self, sensors: Iterable[Sensor]) -> None:
        self.sensors += sensors

    def _take_missing(self, sensors: Iterable[Sensor]) -> None:
        """Take those of components that no family before had."""
        before = {sensor.info.component for sensor in self.sensors}
        for sensor in sensors:
            if sensor.info.component in before:
                sensor.close()
            else:
                self.sensors.append(sensor)

    def _miss(self, family: str, absences: Iterable[Absence], node: Path | None = None) -> None:
        """Note why sensors of a family are not there, as far as anybody asked or there is hardware."""
        for absence in absences:
            asked = family in self._named
            expected = asked or absence.expected or (node is not None and node.exists())
            # That a machine has no RAPL is told in any case: it is why its CPU is modelled.
            if expected or absence.reason != "absent" or family == "rapl":
                self.absences.append(replace(absence, expected=expected))


def _without_rapl(absence: Absence) -> Absence:
    """The absence of what was asked for by name says what is used instead."""
    if not absence.name.startswith("RAPL"):
        return absence
    return replace(absence, message=f"{absence.message} (--sensors rapl: the CPU is modelled instead)")
