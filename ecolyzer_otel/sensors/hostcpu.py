"""Busy CPU time of the scope of a CPU sensor: the host, or the control group that limits this process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import psutil

from ecolyzer_otel.common.procstat import BUSY_TIMES, busy_ticks
from ecolyzer_otel.sensors.base import SensorError
from ecolyzer_otel.sensors.cgroup import CgroupUsage, CpuLimit, find_cpu_limit, root_usage
from ecolyzer_otel.sensors.files import HeldFile, read_text

__all__ = ["HostCpu", "Scope"]

Scope = Literal["host", "cgroup"]
_REMEDY = "mount /proc"


class HostCpu:
    """Cumulative busy CPU seconds of a scope, and the number of its CPUs.

    The scope must match the sensor: the joules of a RAPL package are divided by the busy time of the host, those of
    a model of a container's CPUs by the busy time of the container.

    Args:
        procfs: root of procfs.
        cgroupfs: root of the control groups.
        scope: ``host`` for the host in any case; None for ``cgroup`` if the control group has fewer CPUs than the
            host has online, else the host.

    Attributes:
        scope: ``host`` or ``cgroup``.
        capacity_cpus: number of CPUs of the scope; may be a fraction under a quota.
        description: human-readable source.
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
        self._limit: CpuLimit | None = None
        self._root: CgroupUsage | None = None
        if scope != "host":
            self._apply_limit(find_cpu_limit(procfs, cgroupfs))
        if self.scope == "host" and self._stat is not None:
            self._use_root_usage(cgroupfs)

    def _use_root_usage(self, cgroupfs: str | Path) -> None:
        """Use the root group's CPU time, which is finer than ticks of 10 ms, where it is that of the host."""
        try:
            self._root = root_usage(cgroupfs, self._host_seconds())
        except SensorError:
            return
        if self._root is not None:
            self.description = str(self._root.path)

    def _apply_limit(self, limit: CpuLimit | None) -> None:
        """Take the scope of the control group, if it has fewer CPUs than the host and its usage can be read."""
        if limit is None or limit.cpus >= self.capacity_cpus:
            return
        if limit.usage is None:
            self.description += (
                f" (control group {limit.group} allots {limit.cpus:g} of {self.capacity_cpus:g} CPUs, "
                "but its usage cannot be read: the whole host is used)"
            )
            return
        self.scope = "cgroup"
        self.description = f"{limit.usage.path} ({limit.cpus:g} of {self.capacity_cpus:g} CPUs)"
        self.capacity_cpus = limit.cpus
        self._limit = limit

    def busy_seconds(self) -> float:
        """Returns the cumulative busy CPU seconds of the scope: user, nice, system, irq and softirq.

        Idle, iowait and steal are not included. A control group counts its own run time.

        Raises:
            SensorError: when the source cannot be read now.
        """
        usage = self._root or (self._limit and self._limit.usage)
        if not usage:
            return self._host_seconds()
        try:
            return usage.seconds()
        except OSError as error:
            raise SensorError.from_os(error, usage.path, permission=_REMEDY, absent="restart the meter") from error
        except ValueError as error:
            raise SensorError("io", f"{usage.path}: no CPU usage in it", "restart the meter") from error

    def from_proc_stat(self, seconds: float) -> float:
        """Returns the value of :meth:`busy_seconds` at the time when /proc/stat showed ``seconds``.

        It is computed from the present values of both: the same time has passed on both clocks.

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
            raise SensorError("io", f"{self._stat.path}: no CPU times in it", _REMEDY) from error

    def close(self) -> None:
        """Close the descriptors."""
        if self._stat is not None:
            self._stat.close()
        if self._root is not None:
            self._root.close()
        if self._limit is not None and self._limit.usage is not None:
            self._limit.usage.close()


def _online(stat: str | None) -> int:
    """The number of CPUs that are online: each has a line ``cpuN``."""
    return sum(line.startswith("cpu") and line[3:4].isdigit() for line in (stat or "").splitlines())
