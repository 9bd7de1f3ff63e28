"""The processor package of each worker that is confined to one, and the busy time of each package.

A worker that is pinned to the CPUs of one socket (``taskset``, ``numactl``, a cpuset) draws nothing from the other
one. Affinity comes from :func:`os.sched_getaffinity`, a package's CPUs from sysfs
(``cpuN/topology/physical_package_id``), its busy time from the ``cpuN`` lines of ``/proc/stat``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ecolyzer_otel.common.procstat import busy_ticks
from ecolyzer_otel.ledger import Activity
from ecolyzer_otel.sensors.files import read_int, read_text

__all__ = ["Placement"]

#: Affinities are read this often.
_PERIOD_NS: Final = 1_000_000_000
_SENSOR: Final = re.compile(r"(?:package|dram)-(\d+)(?:-.*)?")
_CPU: Final = re.compile(r"cpu(\d+)")


class Placement:
    """Reports to the ledger where workers run, on hosts with several measured packages; elsewhere it does nothing.

    Args:
        sensors: ids of the sensors (``package-0``, ``dram-1``).
        sysfs: root of sysfs.
        procfs: root of procfs.
    """

    def __init__(self, sensors: Iterable[str], sysfs: str | Path = "/sys", procfs: str | Path = "/proc") -> None:
        self._stat = Path(procfs) / "stat"
        self._sensors: dict[int, list[str]] = {}
        for name in sensors:
            found = _SENSOR.fullmatch(name)
            if found:
                self._sensors.setdefault(int(found[1]), []).append(name)
        self._package_of = _packages(Path(sysfs)) if len(self._sensors) > 1 else {}
        self._read_ns: int | None = None
        self._confined: set[int] = set()
        self._ticks = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

    def sample(self, t_ns: int, activity: Activity, workers: Iterable[tuple[int, int]]) -> None:
        """Update ``activity``.

        Args:
            t_ns: now.
            activity: receives places and busy times.
            workers: (number in the ledger, PID) of each worker.
        """
        if not self._package_of:
            return
        if self._read_ns is None or t_ns - self._read_ns >= _PERIOD_NS:
            self._read_ns = t_ns
            self._read_affinities(activity, workers)
        if self._confined:
            for package, seconds in self._busy().items():
                for sensor in self._sensors.get(package, ()):
                    activity.add_host_of(sensor, t_ns, seconds)

    def _read_affinities(self, activity: Activity, workers: Iterable[tuple[int, int]]) -> None:
        confined = set()
        for number, pid in workers:
            package = self._package(pid)
            activity.place(number, None if package is None else self._sensors[package])
            if package is not None:
                confined.add(number)
        self._confined = confined

    def _package(self, pid: int) -> int | None:
        """The only package that a process may run on; None if there are several, or it cannot be found."""
        try:
            cpus = os.sched_getaffinity(pid) if pid else set()
        except OSError:
            return None
        packages = {self._package_of.get(cpu) for cpu in cpus}
        only = packages.pop() if len(packages) == 1 else None
        return only if only in self._sensors else None

    def _busy(self) -> dict[int, float]:
        busy: dict[int, float] = {}
        for line in (read_text(self._stat) or "").splitlines():
            fields = line.split()
            found = _CPU.fullmatch(fields[0]) if fields else None
            package = self._package_of.get(int(found[1])) if found else None
            if package is not None:
                busy[package] = busy.get(package, 0.0) + busy_ticks(fields) / self._ticks
        return busy


def _packages(sysfs: Path) -> dict[int, int]:
    """Package by CPU."""
    found: dict[int, int] = {}
    for folder in (sysfs / "devices/system/cpu").glob("cpu[0-9]*"):
        package = read_int(folder / "topology/physical_package_id")
        number = _CPU.fullmatch(folder.name)
        if package is not None and number:
            found[int(number[1])] = package
    return found
