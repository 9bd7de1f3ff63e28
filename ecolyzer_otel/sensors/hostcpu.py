"""Busy CPU time of the whole that a CPU sensor stands for: the host, or the control group with its limit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import psutil

from ecolyzer_otel.common.procstat import BUSY_TIMES, busy_ticks
from ecolyzer_otel.sensors.base import SensorError
from ecolyzer_otel.sensors.cgroup import Allotment, CgroupUsage, find_allotment, root_usage
from ecolyzer_otel.sensors.files import HeldFile, read_text

__all__ = ["HostCpu", "Scope"]

Scope = Literal["host", "cgroup"]
_REMEDY = "mount /proc"


class HostCpu:
    """Cumulative busy CPU seconds of a scope, and how many CPUs that scope has.

    The scope must fit the sensor it is compared with: a RAPL package is the host's, so its denominator is the
    host's busy time; a model of a container's own CPUs has the container's.

    Args:
        procfs: root of procfs.
        cgroupfs: root of the control groups.
        scope: ``host`` to stay with the host whatever the control group says; None to decide by the group:
            ``cgroup`` when it allots fewer CPUs than the host has online.

    Attributes:
        scope: ``host`` or ``cgroup``.
        capacity_cpus: CPUs of the scope; a fraction where a quota is one.
        description: the source, for people.
    """

    def __init__(
        self,
        procfs: str | Path = "/proc",
        cgroupfs: str | Path = "/sys/fs/cgroup",
        *,
        scope: Scope | None = None,
    ) -> None:
        path = Path(procfs) / "stat"
        text = read_text(path)
        self._stat = HeldFile(path, 512) if text and text.startswith("cpu ") else None
        # Ticks of 10 ms (USER_HZ), whatever the kernel's own HZ is.
        self._ticks_per_second = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
        self.scope: Scope = "host"
        online = _online(text) if self._stat else 0
        self.capacity_cpus = float(online or os.cpu_count() or 1)
        self.description = str(path) if self._stat else "psutil"
        self._allotment: Allotment | None = None
        self._root: CgroupUsage | None = None
        if scope != "host":
            self._adopt(find_allotment(procfs, cgroupfs))
        if self.scope == "host" and self._stat is not None:
            self._sharpen(cgroupfs)

    def _sharpen(self, cgroupfs: str | Path) -> None:
        """Read the root group's clock instead of ticks of 10 ms, where it is that of the host."""
        try:
            self._root = root_usage(cgroupfs, self._host_seconds())
        except SensorError:
            return
        if self._root is not None:
            self.description = str(self._root.path)

    def _adopt(self, allotment: Allotment | None) -> None:
        if allotment is None or allotment.cpus >= self.capacity_cpus:
            return
        if allotment.usage is None:
            self.description += (
                f" (control group {allotment.group} allots {allotment.cpus:g} of {self.capacity_cpus:g} CPUs, "
                "but its usage cannot be read: the whole host is used)"
            )
            return
        self.scope = "cgroup"
        self.description = f"{allotment.usage.path} ({allotment.cpus:g} of {self.capacity_cpus:g} CPUs)"
        self.capacity_cpus = allotment.cpus
        self._allotment = allotment

    def busy_seconds(self) -> float:
        """Cumulative busy CPU seconds of the scope: user, nice, system, irq and softirq.

        Without idle, iowait and steal. A control group counts its own run time.

        Raises:
            SensorError: when the source cannot be read now.
        """
        usage = self._root or (self._allotment and self._allotment.usage)
        if not usage:
            return self._host_seconds()
        try:
            return usage.seconds()
        except OSError as error:
            raise SensorError.from_os(error, usage.path, permission=_REMEDY, absent="restart the meter") from error
        except ValueError as error:
            raise SensorError("io", f"{usage.path}: holds no usage", "restart the meter") from error

    def of_ticks(self, seconds: float) -> float:
        """What :meth:`busy_seconds` was when the busy time in /proc/stat was ``seconds``, by what passed since.

        Raises:
            SensorError: when a source cannot be read now.
        """
        if self._root is None:
            return seconds
        return self.busy_seconds() - (self._host_seconds() - seconds)

    def _host_seconds(self) -> float:
        """Busy seconds of the whole host by /proc/stat, or by psutil where there is none."""
        if self._stat is None:
            times = psutil.cpu_times()
            return float(sum(getattr(times, name, 0.0) for name in BUSY_TIMES))
        try:
            return busy_ticks(self._stat.read().partition(b"\n")[0].split()) / self._ticks_per_second
        except OSError as error:
            raise SensorError.from_os(error, self._stat.path, permission=_REMEDY, absent=_REMEDY) from error
        except ValueError as error:
            raise SensorError("io", f"{self._stat.path}: holds no times", _REMEDY) from error

    def close(self) -> None:
        """Give the descriptors back."""
        if self._stat is not None:
            self._stat.close()
        if self._root is not None:
            self._root.close()
        if self._allotment is not None and self._allotment.usage is not None:
            self._allotment.usage.close()


def _online(stat: str | None) -> int:
    """CPUs that are online: one line ``cpuN`` each."""
    return sum(line.startswith("cpu") and line[3:4].isdigit() for line in (stat or "").splitlines())
