"""Throttling of devices over time, and the throttled part of a request."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["Throttling"]

#: Samples are kept this long: of a longer request, only the last part is covered.
_KEEP_NS: Final = 600_000_000_000
#: A sample holds until the next one, but not longer than this.
_HOLDS_NS: Final = 12_000_000_000


class Throttling:
    """Reasons for throttling by sensor over time, held between samples."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, frozenset[str]]] = {}
        self._times: dict[str, list[int]] = {}
        #: Seconds throttled for any reason, up to the time at the same index.
        self._totals: dict[str, list[float]] = {}
        #: The reasons sampled at the time at the same index.
        self._reasons: dict[str, list[frozenset[str]]] = {}

    def add(self, sensor: str, t_ns: int, reasons: frozenset[str] | None) -> Mapping[str, float]:
        """Add a sample: the reasons that hold from ``t_ns`` on; None where they are not available.

        Returns:
            Seconds by reason since the previous sample.
        """
        before = self._last.pop(sensor, None)
        seconds = 0.0
        if before is not None and before[1]:
            seconds = max(0, min(t_ns - before[0], _HOLDS_NS)) / 1e9
        if reasons is not None:
            self._last[sensor] = t_ns, reasons
        if reasons is not None or before is not None:
            self._note(sensor, t_ns, seconds, reasons or frozenset())
        return dict.fromkeys(before[1], seconds) if before is not None and seconds else {}

    def has_any(self, sensors: Iterable[str]) -> bool:
        """Returns whether any of the sensors has a sample."""
        return not self._times.keys().isdisjoint(sensors)

    def sensor_lost(self, sensor: str) -> None:
        """End the last sample of a sensor that gives no readings any more."""
        self._last.pop(sensor, None)

    def share(self, sensors: Iterable[str], start_ns: int, end_ns: int) -> float | None:
        """Returns the throttled part of ``[start_ns, end_ns]``, 0 to 1; of several sensors the largest.

        None where no sensor has a sample before the end.
        """
        shares = [self._share(sensor, start_ns, end_ns) for sensor in sensors]
        return max((share for share in shares if share is not None), default=None)

    def reasons(self, sensors: Iterable[str], start_ns: int, end_ns: int) -> list[str]:
        """Returns why any of the sensors was throttled within ``[start_ns, end_ns]``, sorted."""
        found: set[str] = set()
        for sensor in sensors:
            times = self._times.get(sensor, [])
            first = max(0, bisect_right(times, start_ns) - 1)
            for reasons in self._reasons.get(sensor, [])[first : bisect_right(times, end_ns)]:
                found |= reasons
        return sorted(found)

    def _share(self, sensor: str, start_ns: int, end_ns: int) -> float | None:
        times = self._times.get(sensor)
        if not times or times[0] > end_ns:
            return None
        length = (end_ns - start_ns) / 1e9
        if length <= 0:
            return float(bool(self._last.get(sensor, (0, frozenset()))[1]))
        grown = self._at(sensor, end_ns) - self._at(sensor, start_ns)
        return min(1.0, max(0.0, grown / length))

    def _at(self, sensor: str, t_ns: int) -> float:
        """Seconds throttled up to ``t_ns``: linear between samples; after the last sample, its state holds."""
        times, totals = self._times[sensor], self._totals[sensor]
        right = bisect_right(times, t_ns)
        if right == 0:
            return totals[0]
        if right < len(times):
            part = (t_ns - times[right - 1]) / (times[right] - times[right - 1])
            return totals[right - 1] + (totals[right] - totals[right - 1]) * part
        last = self._last.get(sensor)
        held = min(t_ns - last[0], _HOLDS_NS) / 1e9 if last is not None and last[1] else 0.0
        return totals[-1] + held

    def _note(self, sensor: str, t_ns: int, seconds: float, reasons: frozenset[str]) -> None:
        times, totals = self._times.setdefault(sensor, []), self._totals.setdefault(sensor, [])
        sampled = self._reasons.setdefault(sensor, [])
        if times and t_ns <= times[-1]:
            return
        times.append(t_ns)
        totals.append((totals[-1] if totals else 0.0) + seconds)
        sampled.append(reasons)
        stale = bisect_right(times, t_ns - _KEEP_NS)
        if stale > 1000:  # in large steps, because deleting from the front moves the whole list
            del times[:stale]
            del totals[:stale]
            del sampled[:stale]
