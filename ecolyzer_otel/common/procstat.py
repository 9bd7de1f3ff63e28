"""The ``cpu`` and ``cpuN`` lines of /proc/stat (man 5 proc).

The fields after the name are cumulative ticks of 10 ms (USER_HZ): user nice system idle iowait irq softirq steal
guest guest_nice. Older kernels have fewer of them. Idle, iowait and steal (time during which the hypervisor ran
another machine) are not busy. Guest time is not added: user and nice contain it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["BUSY_TIMES", "busy_ticks"]

#: The times that count as busy, by the names that psutil also uses.
BUSY_TIMES: Final = ("user", "nice", "system", "irq", "softirq")
#: Where they are on a line whose first field is its name.
_BUSY_FIELDS: Final = (1, 2, 3, 6, 7)


def busy_ticks(fields: Sequence[bytes] | Sequence[str]) -> int:
    """Returns the cumulative busy ticks of one ``cpu`` or ``cpuN`` line.

    Args:
        fields: the line split at white space, its name included. Missing times at the end count as 0.

    Raises:
        ValueError: when the line has no times, or one of them is not a number.
    """
    if len(fields) < 2:
        raise ValueError("no times")
    return sum(int(fields[field]) for field in _BUSY_FIELDS if field < len(fields))
