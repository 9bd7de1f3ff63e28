"""The CPU limit of this process' control group, and the group's own CPU time.

Version 2 (kernel document ``admin-guide/cgroup-v2``): ``cpu.max`` holds "quota period" in microseconds or "max",
``cpuset.cpus.effective`` a CPU list, ``cpu.stat`` the line ``usage_usec``. Version 1: ``cpu.cfs_quota_us`` (-1 for
none) over ``cpu.cfs_period_us``, ``cpuset.effective_cpus`` or ``cpuset.cpus``, ``cpuacct.usage`` in nanoseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ecolyzer_otel.sensors.files import HeldFile, read_int, read_text

__all__ = ["CgroupUsage", "CpuLimit", "find_cpu_limit", "root_usage"]

#: Relative difference allowed between the root group's time and that of /proc/stat, which are counted differently.
_SAME_HOST = 0.02


class CgroupUsage:
    """Cumulative busy CPU seconds of one control group.

    Args:
        path: the file.
        version: version of the control groups, 1 or 2.
        fields: the lines of a version 2 file that are added up.
    """

    def __init__(self, path: Path, version: int, fields: tuple[bytes, ...] = (b"usage_usec",)) -> None:
        self._file = HeldFile(path, 1024)
        self._version = version
        self._fields = fields

    @property
    def path(self) -> Path:
        """The file that is read."""
        return self._file.path

    def seconds(self) -> float:
        """Returns the CPU seconds that the group has used since it was created.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file has no usage.
        """
        data = self._file.read()
        if self._version == 1:
            return int(data) / 1e9
        values = dict(line.split() for line in data.splitlines() if line.count(b" ") == 1)
        try:
            return sum(int(values[field]) for field in self._fields) / 1e6
        except KeyError:
            raise ValueError(f"{self.path} has no {self._fields[0].decode()}") from None

    def close(self) -> None:
        """Close the descriptor."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class CpuLimit:
    """The CPU limit of a control group.

    Attributes:
        cpus: the smaller of quota and CPU set; may be a fraction under a quota.
        group: the folder that sets the limit.
        usage: the group's CPU time, None if it cannot be read.
    """

    cpus: float
    group: Path
    usage: CgroupUsage | None


def find_cpu_limit(procfs: str | Path = "/proc", cgroupfs: str | Path = "/sys/fs/cgroup") -> CpuLimit | None:
    """Returns the tightest limit from this process' group up to the root, None if there is no limit.

    Of several groups with the same limit the outermost is taken, because all processes in it share these CPUs.
    """
    paths = _own_groups(Path(procfs))
    root = Path(cgroupfs)
    if "" in paths and (root / "cgroup.controllers").exists():
        limits = [(_quota_v2(folder), folder) for folder in _levels(root, paths[""])]
        limits += [(_cpuset(folder / "cpuset.cpus.effective"), folder) for _, folder in limits]
        found = _tightest(limits)
        return found and CpuLimit(found[0], found[1], _readable(found[1] / "cpu.stat", 2))
    return _find_v1(root, paths)


def _find_v1(root: Path, paths: dict[str, str]) -> CpuLimit | None:
    cpu, cpuacct, cpuset = _mount_v1(root, "cpu"), _mount_v1(root, "cpuacct"), root / "cpuset"
    limits = [(_quota_v1(folder), folder) for folder in _levels(cpu, paths.get("cpu", "/"))]
    for folder in _levels(cpuset, paths.get("cpuset", "/")):
        limits.append((min(_cpuset(folder / "cpuset.effective_cpus"), _cpuset(folder / "cpuset.cpus")), folder))
    found = _tightest(limits)
    if found is None:
        return None
    cpus, group = found
    # The hierarchies are separate: the usage is that of the same path in cpuacct, else of our own group there.
    mount = cpu if group.is_relative_to(cpu) else cpuset
    twin = cpuacct / group.relative_to(mount)
    usage = _readable(twin / "cpuacct.usage", 1) if twin.is_dir() else None
    if usage is None:
        usage = _readable(_levels(cpuacct, paths.get("cpuacct", "/"))[0] / "cpuacct.usage", 1)
    return CpuLimit(cpus, group, usage)


def _own_groups(procfs: Path) -> dict[str, str]:
    """Group path by controller; the key of version 2 is the empty string."""
    paths = {}
    for line in (read_text(procfs / "self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _mount_v1(root: Path, controller: str) -> Path:
    """The folder of a version 1 controller: its own, or cpu and cpuacct mounted together."""
    names = (controller, "cpu,cpuacct", "cpuacct,cpu")
    return next((root / name for name in names if (root / name).is_dir()), root / controller)


def _levels(root: Path, path: str) -> list[Path]:
    """The folders from the group up to ``root``.

    A container often sees the host's path in /proc/self/cgroup while its own group is mounted at the root (no
    cgroup namespace), or it sees a path outside of its namespace (``/../x``). Then the root is the group.
    """
    relative = Path(path.lstrip("/"))
    if ".." in relative.parts or not (root / relative).is_dir():
        return [root]
    return [root / relative, *(root / parent for parent in relative.parents)] if relative.parts else [root]


def _tightest(limits: list[tuple[float, Path]]) -> tuple[float, Path] | None:
    bounded = [limit for limit in limits if math.isfinite(limit[0])]
    # The folder with the fewest parts is the outermost.
    return min(bounded, key=lambda limit: (limit[0], len(limit[1].parts)), default=None)


def _quota_v2(folder: Path) -> float:
    quota, _, period = (read_text(folder / "cpu.max") or "max").partition(" ")
    try:
        return int(quota) / int(period or 100_000)
    except (ValueError, ZeroDivisionError):
        return math.inf


def _quota_v1(folder: Path) -> float:
    quota, period = read_int(folder / "cpu.cfs_quota_us"), read_int(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else math.inf


def _cpuset(path: Path) -> float:
    """The number of CPUs in a list such as ``0-3,8``; infinite if there is no list."""
    count = 0
    try:
        for part in filter(None, (read_text(path) or "").split(",")):
            first, _, last = part.partition("-")
            count += int(last or first) - int(first) + 1
    except ValueError:
        return math.inf
    return count or math.inf


def _readable(path: Path, version: int) -> CgroupUsage | None:
    usage = CgroupUsage(path, version)
    try:
        usage.seconds()
    except (OSError, ValueError):
        usage.close()
        return None
    return usage


def root_usage(cgroupfs: str | Path, busy_seconds: float) -> CgroupUsage | None:
    """Returns the CPU time of the root group: that of the host, in finer units than the ticks of /proc/stat.

    In a container the same paths may belong to the container's own group. A time that differs by more than 2 % from
    the host's busy time since boot is therefore not used.

    Args:
        cgroupfs: root of the control groups.
        busy_seconds: busy seconds of the host by /proc/stat.

    Returns:
        The usage, None if no file has that of the host.
    """
    root = Path(cgroupfs)
    # usage_usec of the root includes steal, which is not busy time.
    fields = (b"user_usec", b"system_usec")
    found = [CgroupUsage(root / name / "cpuacct.usage", 1) for name in ("cpuacct", "cpu,cpuacct")]
    if not (root / "cgroup.events").exists():  # the root of a hierarchy has none
        found.append(CgroupUsage(root / "cpu.stat", 2, fields))
    found.append(CgroupUsage(root / "unified" / "cpu.stat", 2, fields))
    for usage in found:
        try:
            if abs(usage.seconds() - busy_seconds) <= _SAME_HOST * busy_seconds:
                return usage
        except (OSError, ValueError):
            pass
        usage.close()
    return None
