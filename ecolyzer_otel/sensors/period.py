"""How often a counter moves, told from its readings. Pure: no clock, no I/O.

A counter that is updated every p seconds and read every r shows a change after a multiple of r: now after the one
below p, now after the one above, and p on average. That is only so while it is read faster than it moves: read at
its own pace it changes at about every read, whatever its period, and a change that comes one read late looks like
two periods. So a time between changes counts only where the reads in it were at most half a period apart, or where
the counter was seen standing still several times; while learning, once will do.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["PeriodEstimator"]

#: Times between changes that are looked at, and how many it takes for a word.
_KEEP: Final = 32
_ENOUGH: Final = 5
#: Learning ends with this many times, or after this many readings.
_LEARNED: Final = 12
_READINGS: Final = 40
#: Longer than any counter's period: it stood still because nothing was drawn, or nobody read it.
_LONGEST_NS: Final = 5_000_000_000
#: It is learned anew from time to time: a driver's setting may have changed.
_AGAIN_NS: Final = 300_000_000_000


class PeriodEstimator:
    """The update period of one counter.

    Args:
        prior_seconds: what is known of it beforehand; stands until the readings say otherwise.
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
        """A reading of the counter."""
        if self._readings == 0 and self._value is None:
            self._learning_since = t_ns
        elif not self.learning and t_ns - self._learning_since > _AGAIN_NS:
            self._learning_since, self._readings, self._times = t_ns, 0, 0
        self._readings += 1
        if self._value is not None and value == self._value:
            self._repeats += 1
            return
        if self._value is not None and self._changed_ns is not None:
            self._note(t_ns - self._changed_ns)
        # Of the first reading nobody knows how long ago it changed.
        self._changed_ns = t_ns if self._value is not None else None
        self._value = value
        self._repeats = 0

    def _note(self, gap_ns: int) -> None:
        apart = gap_ns / (self._repeats + 1) / 1e9
        fast = apart <= self.seconds / 2
        if gap_ns <= _LONGEST_NS and self._repeats and (fast or self._repeats >= (1 if self.learning else 3)):
            self._gaps.append(gap_ns)
            self._times += 1

    @property
    def learning(self) -> bool:
        """Whether it should be read as fast as is allowed, to find out."""
        return self._times < _LEARNED and self._readings < _READINGS

    @property
    def seconds(self) -> float:
        """The period: the mean of the times between changes, without those that idling or missed reads made long.

        The lower quartile tells what is usual, because nothing but jitter makes a time too short.
        """
        if len(self._gaps) < _ENOUGH:
            return self._prior
        ordered = sorted(self._gaps)
        usual = ordered[len(ordered) // 4]
        kept = [gap for gap in ordered if usual / 2 <= gap <= usual * 1.6]
        return sum(kept) / len(kept) / 1e9

    def forget(self) -> None:
        """The sensor was lost: what was before its return says nothing of the time between."""
        self._changed_ns = None
        self._value = None
        self._repeats = 0
