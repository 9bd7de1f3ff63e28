"""Temperatures over time, and what a request saw of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

__all__ = ["Thermal"]

#: Requests longer than this see only its last part.
_KEEP_NS: Final = 600_000_000_000


class Thermal:
    """Temperature samples by sensor. A reading stands until the next one."""

    def __init__(self) -> None:
        self._times: dict[str, list[int]] = {}
        self._values: dict[str, list[float]] = {}

    def add(self, sensor: str, t_ns: int, celsius: float) -> None:
        """A reading in degrees Celsius."""
        times, values = self._times.setdefault(sensor, []), self._values.setdefault(sensor, [])
        times.append(t_ns)
        values.append(celsius)
        stale = bisect_right(times, t_ns - _KEEP_NS)
        if stale > 1000:  # in large steps: deleting from the front costs the whole list
            del times[:stale]
            del values[:stale]

    def knows(self, sensors: Iterable[str]) -> bool:
        """Whether any of the sensors ever told its temperature."""
        return not self._times.keys().isdisjoint(sensors)

    def last(self, sensor: str) -> float | None:
        """The latest reading of ``sensor``."""
        values = self._values.get(sensor)
        return values[-1] if values else None

    def over(self, sensors: Iterable[str], start_ns: int, end_ns: int) -> tuple[float, float] | None:
        """Time mean and maximum over ``[start_ns, end_ns]``; with several sensors the hottest; None if unknown."""
        seen = [one for one in (self._one(sensor, start_ns, end_ns) for sensor in sensors) if one]
        return max(seen) if seen else None

    def _one(self, sensor: str, start_ns: int, end_ns: int) -> tuple[float, float] | None:
        times, values = self._times.get(sensor, []), self._values.get(sensor, [])
        last = bisect_right(times, end_ns)
        if last == 0:
            return None
        first = max(0, bisect_right(times, start_ns) - 1)
        edges = [max(start_ns, times[first]), *times[first + 1 : last], max(end_ns, times[first])]
        steps = values[first:last]
        length = edges[-1] - edges[0]
        if length <= 0:
            return steps[-1], max(steps)
        weighted = sum(v * (b - a) for v, a, b in zip(steps, edges, edges[1:], strict=False))
        return weighted / length, max(steps)
