"""Which sensors this machine has: each is tried once, and what is not used says why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ecolyzer_otel.config import Config
from ecolyzer_otel.sensors.base import Absence, Sensor
from ecolyzer_otel.sensors.cpuinfo import provider, read_cpuinfo
from ecolyzer_otel.sensors.hardware import HardwareTable
from ecolyzer_otel.sensors.hostcpu import HostCpu, Scope
from ecolyzer_otel.sensors.modelled import ModelledCpu, power_model
from ecolyzer_otel.sensors.rapl import open_rapl
from ecolyzer_otel.sensors.replay import load_recording
from ecolyzer_otel.sensors.thermal import find_cpu_thermal

__all__ = ["Discovery", "discover"]


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
        parts: list[str] = []
        for sensor in self.sensors:
            text = sensor.info.description
            # "RAPL package-0, dram-0": the family's name once.
            family = text.removesuffix(sensor.info.id)
            repeated = family != text and any(part.startswith(family) for part in parts)
            parts.append(sensor.info.id if repeated else text)
        if not parts:
            return "nothing (no sensor and --sensors none)"
        modelled = all(sensor.info.method == "modelled" for sensor in self.sensors)
        return ("no sensor: " if modelled and isinstance(self.sensors[0], ModelledCpu) else "") + ", ".join(parts)

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
    scope: Scope | None = None,
) -> Discovery:
    """Find the sensors that ``config.sensors`` asks for under ``config.sysfs``.

    ``auto`` and ``rapl`` take RAPL where at least one package can be read and model the CPU otherwise, so that
    unknown never becomes zero; ``modelled`` does not look for RAPL; ``none`` gives no sensor; ``replay:FILE`` plays
    a recording.

    Args:
        config: the settings.
        procfs: root of procfs.
        cgroupfs: root of the control groups. Apart from ``config.sysfs``: this process' own limits hold
            whichever tree its counters are read from.
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
    absences: list[Absence] = []
    if config.sensors in ("auto", "rapl"):
        rapl, absences = open_rapl(config.sysfs)
        if any(sensor.info.component == "cpu" for sensor in rapl):
            return Discovery(tuple(rapl), tuple(absences), HostCpu(procfs, cgroupfs, scope="host"))
        for sensor in rapl:  # DRAM without its package: the model below stands for both
            sensor.close()
        if config.sensors == "rapl":
            absences = [_without_rapl(absence) for absence in absences]
    host = HostCpu(procfs, cgroupfs, scope=scope)
    model = power_model(read_cpuinfo(procfs), host, HardwareTable.load(), provider(config.sysfs))
    return Discovery((ModelledCpu(host, model, find_cpu_thermal(config.sysfs)),), tuple(absences), host)


def _without_rapl(absence: Absence) -> Absence:
    """The absence of what was asked for by name says what is used instead."""
    message = f"{absence.message} (--sensors rapl: the CPU is modelled instead)"
    return Absence(absence.name, absence.reason, message, absence.remedy)
