"""A cumulative quantity that is sampled at some instants and interpolated linearly between them."""

from __future__ import annotations

from bisect import bisect_right
from math import isfinite
from typing import Final

__all__ = ["Curve"]

#: Growth up to this (seconds, joules) is none: no clock or counter resolves it, and watts per unit of it overflow.
_LEAST: Final = 1e-15


class Curve:
    """Non-decreasing samples ``(t_ns, value)``. Flat before the first and after the last."""

    __slots__ = ("_times", "_values")

    def __init__(self) -> None:
        self._times: list[int] = []
        self._values: list[float] = []

    def __bool__(self) -> bool:
        return bool(self._times)

    def add(self, t_ns: int, value: float) -> None:
        """Append a sample. It is ignored unless it is finite and later than the last; a lower value is no growth.

        A counter that restarts (a clock step, a process replaced under the same PID) must not take back what
        was already charged, so the curve stays flat there.
        """
        if not isfinite(value):
            return
        if self._times:
            if t_ns <= self._times[-1]:
                return
            value = max(value, self._values[-1])
        self._times.append(t_ns)
        self._values.append(value)

    def at(self, t_ns: int) -> float:
        """Returns the value at ``t_ns``; 0.0 for an empty curve."""
        times, values = self._times, self._values
        if not times:
            return 0.0
        right = bisect_right(times, t_ns)
        if right == 0:
            return values[0]
        if right == len(times):
            return values[-1]
        t0, t1 = times[right - 1], times[right]
        v0, v1 = values[right - 1], values[right]
        return v0 + (v1 - v0) * (t_ns - t0) / (t1 - t0)

    def growth(self, start_ns: int, end_ns: int) -> float:
        """Returns the growth of the quantity over ``[start_ns, end_ns]``."""
        grown = self.at(end_ns) - self.at(start_ns)  # below 0 where interpolation rounds past the next sample
        return grown if grown > _LEAST else 0.0

    def covers(self, start_ns: int, end_ns: int) -> bool:
        """Whether the samples reach from the begin to the end of an interval."""
        return bool(self._times) and self._times[0] <= start_ns and self._times[-1] >= end_ns

    def last_ns(self, t_ns: int) -> int | None:
        """Returns the time of the latest sample at or before ``t_ns``, None if there is none."""
        right = bisect_right(self._times, t_ns)
        return self._times[right - 1] if right else None

    def forget_before(self, t_ns: int) -> None:
        """Drop the samples that no interval from ``t_ns`` on can need."""
        keep = bisect_right(self._times, t_ns) - 1
        if keep > 0:
            del self._times[:keep]
            del self._values[:keep]
