"""Other meters on this host.

Two meters measure the same hardware. The CPU time of its own workers tells each what part is its own; but idle
joules, and those of a GPU that does not tell who uses it, both would charge in full. So each says that it is there,
and divides these by the number of meters. One agent for all would know better, and is advised.

A meter is there as long as it holds a name in the kernel's abstract namespace of Unix sockets, which needs no file,
no permission and no clean-up. It reaches as far as the network namespace: meters in containers that have their own
do not see each other.
"""

from __future__ import annotations

import logging
import os
import socket
from time import monotonic
from typing import Final

__all__ = ["GROUP", "Neighbours"]

_LOG = logging.getLogger(__name__)
_PREFIX: Final = "ecolyzer-meter/"
_PERIOD: Final = 2.0
_TABLE: Final = "/proc/net/unix"
#: Internal: a meter looks for those with the same value of this variable, without one for those without. Our tests
#: set it and are alone, whatever else runs on the host.
GROUP: Final = "_ECOLYZER_METER_GROUP"


class Neighbours:
    """Announces this meter and counts all that are there.

    Args:
        table: the kernel's list of Unix sockets.
    """

    def __init__(self, table: str = _TABLE) -> None:
        self._table = table
        group = os.environ.get(GROUP, "")[:40]
        self._prefix = f"ecolyzer-meter-{group}/" if group else _PREFIX
        self._name = f"{self._prefix}{os.getpid()}-{os.urandom(4).hex()}"
        self._next = 0.0
        self._meters = 1
        self._advised = False
        self._socket: socket.socket | None = None
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.bind("\0" + self._name)
        except (OSError, AttributeError):  # no such namespace: macOS, Windows
            self.close()

    def count(self) -> int:
        """How many meters there are, this one included; looked up every 2 s."""
        now = monotonic()
        if now >= self._next and self._socket is not None:
            self._next = now + _PERIOD
            before, self._meters = self._meters, 1 + self._others()
            # Twice in a row: that of a service just restarted may be about to end.
            if min(before, self._meters) > 1 and not self._advised:
                self._advised = True
                _LOG.warning(
                    "ecolyzer: %d meters run on this host: requests keep their own CPU share, idle joules are "
                    "divided by %d; one agent for all services (ecolyzer agent) measures them together",
                    self._meters,
                    self._meters,
                )
        return self._meters

    def _others(self) -> int:
        try:
            with open(self._table, encoding="utf-8", errors="replace") as file:
                names = {line.rpartition(" ")[2].strip() for line in file if self._prefix in line}
        except OSError:
            return 0
        return sum(name.startswith("@" + self._prefix) and name[1:] != self._name for name in names)

    def close(self) -> None:
        """This meter is no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
