"""The ceiling of a device: the power that its requests together do not exceed.

Causes are a power cap, a throttled clock, or a power that grows less than its load. Model: at each instant the
active power is  min(C, sum of the watts of the running requests). Under a ceiling, heavy kinds of request run
mostly while the device is crowded and would be learned as too light. And a request that ran in a crowded moment
drew less than others of its kind. So, where a ceiling is found,

* intensities are learned only from the moments below the ceiling (the derivative of an interval's energy by a
  request's watts is the time that the request ran below it: an extended Kalman filter),
* a request is charged by its time weighted with min(1, C / sum) at each moment: all running requests are scaled
  alike.

The ceiling is found by trial: of a grid of ceilings, the one with the smallest prediction errors is used, if they
are much smaller than the errors without a ceiling, or significantly smaller (a paired comparison of squared
errors).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import floor, log
from typing import Final

__all__ = ["Ceiling", "Span"]

#: Begin and end of one request's activity in an interval (ns), and its expected watts meanwhile.
Span = tuple[int, int, float]

#: Ratio of adjacent ceilings of the grid, and the range that is tried, relative to the highest power seen.
_STEP: Final = 1.05
_LOG_STEP: Final = log(_STEP)
_LOWEST: Final = 0.75
_HIGHEST: Final = 1.5
#: One interval in this many is tried; one in ``_CALM`` after ``_CALM_AFTER`` trials.
_EVERY: Final = 2
_CALM_AFTER: Final = 100
_CALM: Final = 8
#: Intervals tried before errors are compared.
_ENOUGH: Final = 16
_RATE: Final = 0.015
#: A ceiling is accepted when its squared errors are below this part of those without, after this many trials, or
#: when they are smaller by this many standard errors. It is rejected again above the last ratio.
_MUCH: Final = 0.8
_MANY: Final = 40
_CERTAIN: Final = 2.5
_REJECTED: Final = 0.97
#: Where this part of all intervals is this close to the highest power, these are at the ceiling throughout.
_OFTEN: Final = 0.02
_NEAR: Final = 0.02
#: The highest power decays by this factor with each interval below it.
_FADE: Final = 0.9999


class _Errors:
    """Mean squared prediction errors of one ceiling of the grid, and without a ceiling in the same intervals."""

    __slots__ = ("better", "free", "number", "scatter", "under")

    def __init__(self) -> None:
        self.number = 0
        self.under = 0.0
        self.free = 1e-30
        self.better = 0.0
        self.scatter = 0.0

    @property
    def certainty(self) -> float:
        """By how many standard errors the ceiling predicts better than no ceiling."""
        number = min(self.number, 2.0 / _RATE)
        deviation = max(0.0, self.scatter - self.better**2) / number
        return self.better / deviation**0.5 if deviation > 0.0 else 0.0


class Ceiling:
    """The ceiling of one device, if it has one.

    Attributes:
        watts: active power that the device does not exceed; None if no ceiling is known.
    """

    __slots__ = ("_errors", "_intervals", "_reached", "_top", "_tried", "watts")

    def __init__(self) -> None:
        self.watts: float | None = None
        self._top = 0.0
        self._intervals = 0
        self._reached = 0.0
        self._tried = 0
        self._errors: dict[int, _Errors] = {}  # by power of the step

    def is_due(self, watts: float) -> bool:
        """Whether :meth:`learn` is to be called for the next interval, whose active power is ``watts``."""
        if watts > self._top:
            # Intervals near the old highest power are not near the new one if it is much higher.
            self._reached *= max(0.0, 1.0 - (watts / self._top - 1.0) / _NEAR) if self._top > 0.0 else 0.0
            self._top = watts
        else:
            self._top *= _FADE
        self._intervals += 1
        if watts > (1.0 - _NEAR) * self._top:
            self._reached += 1
        return self._intervals % (_EVERY if self._tried < _CALM_AFTER else _CALM) == 0 and self._top > 0.0

    def learn(self, spans: Sequence[Span], base: float, seconds: float, active: float) -> None:
        """Compare the predictions of the ceilings with the measured joules.

        Args:
            spans: the spans of the requests in an interval.
            base: expected watts of everything else, throughout the interval.
            seconds: length of the interval.
            active: joules beyond idle that were measured.
        """
        levels, rest = _levels(spans, base, seconds)
        levels.sort()
        powers = [level for level, _ in levels]
        times = [time for _, time in levels]
        under = [0.0, *accumulate([level * time for level, time in levels])]
        over = [0.0, *accumulate(times)]
        active -= base * rest
        self._tried += 1
        free = (active - under[-1]) ** 2
        first = floor(log(_LOWEST * self._top) / _LOG_STEP)
        last = floor(log(_HIGHEST * self._top) / _LOG_STEP)
        for power in [power for power in self._errors if not first <= power <= last]:
            del self._errors[power]
        for power in range(first, last + 1):
            ceiling = _STEP**power
            reached = bisect_left(powers, ceiling)
            error = active - under[reached] - ceiling * (over[-1] - over[reached])
            errors = self._errors.setdefault(power, _Errors())
            errors.number += 1
            rate = max(_RATE, 1.0 / errors.number)
            errors.under += rate * (error * error - errors.under)
            errors.free += rate * (free - errors.free)
            better = free - error * error
            errors.better += rate * (better - errors.better)
            errors.scatter += rate * (better * better - errors.scatter)
        self._choose()

    def _choose(self) -> None:
        tried = [(one.under / one.free, power) for power, one in self._errors.items() if one.number >= _ENOUGH]
        if not tried:
            return
        ratio, power = min(tried)
        if not self._is_accepted(ratio, self._errors[power]):
            self.watts = None
        elif self._reached / self._intervals >= _OFTEN:
            self.watts = self._top  # entire intervals are at the ceiling, which is their power
        else:
            self.watts = _STEP**power

    def _is_accepted(self, ratio: float, errors: _Errors) -> bool:
        if self.watts is not None:
            return ratio < _REJECTED
        # After few trials the best of many ceilings looks better than it is.
        return (errors.number >= _MANY and ratio < _MUCH) or errors.certainty > _CERTAIN

    @staticmethod
    def apply(spans: Sequence[Span], base: float, ceiling: float) -> tuple[list[float], list[float], float]:
        """Apply a ceiling to the requests of an interval.

        Returns:
            For each request, the part of its time below the ceiling; for each, the mean of min(1, ceiling / sum)
            over its time; and the seconds at the ceiling.
        """
        below = given = reached = 0.0
        marks: dict[int, tuple[float, float]] = {}
        level, at = base, 0
        for when, change in _edges(spans):
            step = when - at
            if marks and step:
                if level <= ceiling:
                    below += step
                    given += step
                else:
                    given += step * ceiling / level
                    if level - base > 1e-9 * level:
                        reached += step
            marks[when] = below, given
            level += change
            at = when
        free, scale = [], []
        for low, high, _ in spans:
            (below_low, given_low), (below_high, given_high) = marks[low], marks[high]
            free.append((below_high - below_low) / (high - low))
            scale.append((given_high - given_low) / (high - low))
        return free, scale, reached / 1e9


def _edges(spans: Sequence[Span]) -> list[tuple[int, float]]:
    """The times at which the sum of watts changes, and the changes."""
    return sorted([edge for low, high, watts in spans for edge in ((low, watts), (high, -watts))])


def _levels(spans: Sequence[Span], base: float, seconds: float) -> tuple[list[tuple[float, float]], float]:
    """The sums of watts with the seconds that each lasted, and the seconds in which only the base ran."""
    found: list[tuple[float, float]] = []
    edges = _edges(spans)
    level, at, busy = base, edges[0][0], 0.0
    running = 0
    for when, change in edges:
        time = (when - at) / 1e9
        if time > 0.0 and running:
            found.append((level, time))
            busy += time
        running += 1 if change > 0.0 else -1
        level += change
        at = when
    return found, max(0.0, seconds - busy)
