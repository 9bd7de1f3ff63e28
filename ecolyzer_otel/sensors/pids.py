"""From the PIDs that a driver tells to the PIDs that this process sees.

A driver lives in the kernel and tells PIDs of the host (of the initial PID namespace), also to a process in a
container, where the same number may be somebody else (NVIDIA/nvidia-docker issue 1483). So inside a PID namespace
of its own a number is only believed where procfs translates it: the line ``NSpid`` of ``/proc/PID/status``
(proc(5)) lists a process' PIDs from the namespace of the procfs mount inwards, which takes the host's procfs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ecolyzer_otel.sensors.files import read_text

__all__ = ["PidMap"]

#: PROC_PID_INIT_INO of the kernel (include/linux/proc_ns.h): the inode of the initial PID namespace.
_INITIAL: Final = "pid:[4026531836]"
#: Above every PID (PID_MAX_LIMIT is 2**22): a process that is not in our namespace, and so none of our workers.
_FOREIGN: Final = 1 << 32


class PidMap:
    """Translates PIDs of the initial namespace.

    Args:
        procfs: where to look processes up: a mount of the host's procfs where there is one.
    """

    def __init__(self, procfs: str | Path = "/proc") -> None:
        self._procfs = Path(procfs)
        self._namespace = _namespace(self._procfs / "self")
        self._cache: dict[int, int] = {}

    @property
    def trivial(self) -> bool:
        """Whether this process is in the initial namespace (or there are none): PIDs are what they seem."""
        return self._namespace is None or self._namespace == _INITIAL

    def local(self, pid: int) -> int | None:
        """The PID of host process ``pid`` here; a number that no process has for one of elsewhere.

        None where it cannot be told.
        """
        if self.trivial:
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
                # With one number this procfs shows our own namespace, and the process is only a namesake.
                return pid + _FOREIGN if len(numbers) > 1 else None
        return None


def _namespace(process: Path) -> str | None:
    try:
        return os.readlink(process / "ns/pid")
    except OSError:
        return None
