"""The process at the other end of a connection, as the kernel reports it; its own statements are not used.

The container is read from the control group of the peer's process. Runtimes name a container's group after its id
of 64 hexadecimal digits: Docker ``docker/<id>`` and ``docker-<id>.scope``, containerd
``cri-containerd-<id>.scope``, CRI-O ``crio-<id>.scope``, Podman ``libpod-<id>.scope``, Kubernetes with cgroupfs
``kubepods/…/pod<uid>/<id>``.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["Peer", "container_of", "is_gone", "peer_of"]

_ID: Final = re.compile(r"(?:^|[/-])([0-9a-f]{64})(?:\.scope)?(?=/|$)")
_SHORT: Final = 12  # as ``docker ps`` shows it


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end.

    ``pid`` is 0 and ``uid`` -1 where the kernel does not report them; ``container`` is "" outside a container.
    """

    pid: int = 0
    uid: int = -1
    container: str = ""

    def __str__(self) -> str:
        return f"process {self.pid or '?'}" + (f" in container {self.container}" if self.container else "")


def peer_of(link: socket.socket) -> Peer:
    """Returns the process that connected ``link`` (SO_PEERCRED, unix(7)), with its PID in this PID namespace."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return Peer()
    pid, uid, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return Peer(pid, uid, container_of(pid) if pid else "")


def container_of(pid: int, procfs: str = "/proc") -> str:
    """Returns the short id of a process's container; "" if it has none, or its control group cannot be read."""
    try:
        with open(f"{procfs}/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            groups = file.read(65536)
    except OSError:
        return ""
    for line in groups.splitlines():
        found = _ID.findall(line.partition(":")[2].partition(":")[2])
        if found:
            return str(found[-1])[:_SHORT]  # of nested containers, the innermost
    return ""


def is_gone(pid: int) -> bool:
    """Returns whether a process has ended or is a zombie. False for PID 0, which cannot be seen."""
    if pid <= 0:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return _ask_kernel(pid)  # ended, or procfs hides it (hidepid)
    except (OSError, IndexError):
        return False


def _ask_kernel(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
