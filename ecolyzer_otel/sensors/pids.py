"""Translates the PIDs that a driver reports to the PID namespace of this process.

A driver reports PIDs of the host (the initial PID namespace), also to a process in a container, where the same
number may belong to another process (NVIDIA/nvidia-docker issue 1483). In a container, a PID is therefore only used
if the host's procfs is mounted and translates it: the line ``NSpid`` of ``/proc/PID/status`` (proc(5)) lists the
PIDs of a process from the namespace of the procfs mount inwards.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ecolyzer_otel.sensors.files import read_text

__all__ = ["PidMap"]

#: PROC_PID_INIT_INO of the kernel (include/linux/proc_ns.h): the inode of the initial PID namespace.
_INITIAL: Final = "pid:[4026531836]"
#: Above every PID (PID_MAX_LIMIT is 2**22): added to the PID of a process outside of this namespace.
_FOREIGN: Final = 1 << 32


class PidMap:
    """Translates PIDs of the initial namespace.

    Args:
        procfs: the procfs to look up processes in; the host's, if it is mounted.
    """

    def __init__(self, procfs: str | Path = "/proc") -> None:
        self._procfs = Path(procfs)
        self._namespace = _namespace(self._procfs / "self")
        self._cache: dict[int, int] = {}

    @property
    def in_initial_namespace(self) -> bool:
        """Whether this process is in the initial namespace, or there are none: then PIDs need no translation."""
        return self._namespace is None or self._namespace == _INITIAL

    def local(self, pid: int) -> int | None:
        """Returns the PID of host process ``pid`` in this namespace, None if it is unknown.

        For a process outside of this namespace it returns a number that no process has.
        """
        if self.in_initial_namespace:
            return pid
        if pid not in self._cache:
            found = self._look_up(pid)
            if found is None:
                return None
            if len(self._cache) > 10_000:
                self._cache.clear()
            self._cache[pid] = found
        return self._cache[pid]

    def _look_up(self, pid: int) -> int | None:
        folder = self._procfs / str(pid)
        for line in (read_text(folder / "status") or "").splitlines():
            if line.startswith("NSpid:"):
                numbers = [int(word) for word in line[6:].split()]
                if len(numbers) > 1 and _namespace(folder) == self._namespace:
                    return numbers[-1]
                # With one number this is the procfs of our own namespace: another process has the same number.
                return pid + _FOREIGN if len(numbers) > 1 else None
        return None


def _namespace(process: Path) -> str | None:
    try:
        return os.readlink(process / "ns/pid")
    except OSError:
        return None
