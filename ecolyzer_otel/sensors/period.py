"""Estimates the update period of a counter from its readings. Pure: no clock, no I/O.

A counter that is updated every p seconds and read every r seconds shows changes at multiples of r: just below or
just above p, and p on average. This holds only while it is read faster than it is updated. If it is read at its own
pace, it changes at nearly every read, whatever its period, and a change that is one read late looks like two
periods. A time between changes is therefore used only if the reads in it were at most half a period apart, or if
several reads in it repeated the value (while learning, one).
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["PeriodEstimator"]

#: Number of times between changes that are kept, and the least number for an estimate.
_KEEP: Final = 32
_ENOUGH: Final = 5
#: Learning ends with this many times, or after this many readings.
_LEARNED: Final = 12
_READINGS: Final = 40
#: Longer than any counter's period: the counter stood still because nothing was drawn, or it was not read.
_LONGEST_NS: Final = 5_000_000_000
#: The period is learned again after this time, because a setting of the driver may have changed.
_AGAIN_NS: Final = 300_000_000_000


class PeriodEstimator:
    """The update period of one counter.

    Args:
        prior_seconds: the expected period, used until there are enough readings.
    """

    def __init__(self, prior_seconds: float) -> None:
        self._prior = prior_seconds
        self._gaps: deque[int] = deque(maxlen=_KEEP)
        self._value: float | None = None
        self._changed_ns: int | None = None
        self._repeats = 0
        self._readings = 0
        self._times = 0
        self._learning_since = 0

    def add(self, t_ns: int, value: float) -> None:
        """Add a reading of the counter."""
        if self._readings == 0 and self._value is None:
            self._learning_since = t_ns
        elif not self.learning and t_ns - self._learning_since > _AGAIN_NS:
            self._learning_since, self._readings, self._times = t_ns, 0, 0
        self._readings += 1
        if self._value is not None and value == self._value:
            self._repeats += 1
            return
        if self._value is not None and self._changed_ns is not None:
            self._add_gap(t_ns - self._changed_ns)
        # The time of the change before the first reading is unknown.
        self._changed_ns = t_ns if self._value is not None else None
        self._value = value
        self._repeats = 0

    def _add_gap(self, gap_ns: int) -> None:
        apart = gap_ns / (self._repeats + 1) / 1e9
        fast = apart <= self.seconds / 2
        if gap_ns <= _LONGEST_NS and self._repeats and (fast or self._repeats >= (1 if self.learning else 3)):
            self._gaps.append(gap_ns)
            self._times += 1

    @property
    def learning(self) -> bool:
        """Whether the counter should be read as fast as is allowed, to learn its period."""
        return self._times < _LEARNED and self._readings < _READINGS

    @property
    def seconds(self) -> float:
        """The period: the mean of the times between changes, without those that idling or missed reads made long.

        The lower quartile is the reference, because only jitter makes a time too short.
        """
        if len(self._gaps) < _ENOUGH:
            return self._prior
        ordered = sorted(self._gaps)
        usual = ordered[len(ordered) // 4]
        kept = [gap for gap in ordered if usual / 2 <= gap <= usual * 1.6]
        return sum(kept) / len(kept) / 1e9

    def forget(self) -> None:
        """Drop the last reading, because the sensor was lost: the time until its return is not a period."""
        self._changed_ns = None
        self._value = None
        self._repeats = 0
