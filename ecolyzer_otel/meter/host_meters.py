"""The number of meters on this host.

Two meters measure the same hardware. Each finds the active joules of its own workers from their CPU time. But idle
joules, and those of a GPU that does not report who uses it, would be charged in full by both. So each meter
announces itself, and divides these joules by the number of meters. One agent for all services does not need this
division, and a warning recommends it.

A meter is announced by a name in the kernel's abstract namespace of Unix sockets, which needs no file, no
permission and no clean-up. The names of one network namespace are visible to each other: meters in containers with
their own network do not see each other.
"""

from __future__ import annotations

import logging
import os
import socket
from time import monotonic
from typing import Final

__all__ = ["GROUP", "HostMeters"]

_LOG = logging.getLogger(__name__)
#: Internal: a meter counts only meters with the same value of this variable (or without one, as itself). The tests
#: set it, so that other meters of the host are not counted.
GROUP: Final = "_ECOLYZER_METER_GROUP"
_PREFIX: Final = "ecolyzer-meter/"
_PERIOD: Final = 2.0
_TABLE: Final = "/proc/net/unix"


class HostMeters:
    """Announces this meter and counts all that are announced.

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
        self._warned = False
        self._socket: socket.socket | None = None
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.bind("\0" + self._name)
        except (OSError, AttributeError):  # no such namespace: macOS, Windows
            self.close()

    def count(self) -> int:
        """Returns the number of meters, this one included; looked up every 2 s."""
        now = monotonic()
        if now >= self._next and self._socket is not None:
            self._next = now + _PERIOD
            before, self._meters = self._meters, 1 + self._others()
            # Twice in a row: the meter of a service that was just restarted may be about to end.
            if min(before, self._meters) > 1 and not self._warned:
                self._warned = True
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
        """Withdraw the announcement."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
