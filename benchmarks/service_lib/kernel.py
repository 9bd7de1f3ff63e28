"""Kernel figures of a process: CPU time to the nanosecond, memory, wake-ups; and pinning to cores."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MEGA = 1e6


@dataclass(frozen=True)
class Memory:
    """Megabytes (10**6 bytes): resident, proportional (shared pages divided), and unique to the process."""

    rss: float
    pss: float
    uss: float


def _tasks(pid: int) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from Path(f"/proc/{pid}/task").iterdir()


def _status(path: Path, key: str) -> int:
    for line in (path / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    return 0


def cpu_seconds(pid: int) -> float:
    """CPU time of the current threads of a process; ended threads are not included."""
    total = 0
    for task in _tasks(pid):
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def background_cpu_seconds(pid: int) -> float:
    """CPU time of all current threads except the main one."""
    total = 0
    for task in _tasks(pid):
        if int(task.name) != pid:
            with contextlib.suppress(OSError, ValueError, IndexError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def wake_ups_by_thread(pid: int) -> dict[int, int]:
    """Voluntary context switches by thread."""
    found = {}
    for task in _tasks(pid):
        with contextlib.suppress(OSError, ValueError):
            found[int(task.name)] = _status(task, "voluntary_ctxt_switches")
    return found


def memory(pid: int) -> Memory:
    """The current memory of a process."""
    sizes = {"Rss": 0, "Pss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in sizes:
            sizes[name] = int(value.split()[0]) * 1024
    own = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Memory(sizes["Rss"] / MEGA, sizes["Pss"] / MEGA, own / MEGA)


def pin(pid: int, core: int) -> None:
    """Pin all threads of a process to one core."""
    for task in list(_tasks(pid)):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(task.name), {core})


def find_meter(service: int) -> int | None:
    """The PID of the meter of a service: the name of its folder contains the PID of the service."""
    wanted = f"ecolyzer-{service}-".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"ecolyzer-meter" in words and any(wanted in word for word in words):
                return int(folder.name)
    return None
