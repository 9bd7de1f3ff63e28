"""Temperatures of sensors over time, and those over the time of a request."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

__all__ = ["Temperatures"]

#: Readings are kept this long: of a longer request, only the last part has temperatures.
_KEEP_NS: Final = 600_000_000_000


class Temperatures:
    """Temperature readings by sensor. A reading holds until the next one."""

    def __init__(self) -> None:
        self._times: dict[str, list[int]] = {}
        self._values: dict[str, list[float]] = {}

    def add(self, sensor: str, t_ns: int, celsius: float) -> None:
        """Add a reading in degrees Celsius."""
        times, values = self._times.setdefault(sensor, []), self._values.setdefault(sensor, [])
        times.append(t_ns)
        values.append(celsius)
        stale = bisect_right(times, t_ns - _KEEP_NS)
        if stale > 1000:  # in large steps, because deleting from the front moves the whole list
            del times[:stale]
            del values[:stale]

    def has_any(self, sensors: Iterable[str]) -> bool:
        """Returns whether any of the sensors has a reading."""
        return not self._times.keys().isdisjoint(sensors)

    def over(self, sensors: Iterable[str], start_ns: int, end_ns: int) -> tuple[float, float] | None:
        """Returns time mean and maximum over ``[start_ns, end_ns]`` of the hottest sensor; None if unknown."""
        found = [one for one in (self._one(sensor, start_ns, end_ns) for sensor in sensors) if one]
        return max(found) if found else None

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
