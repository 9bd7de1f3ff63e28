"""A device that draws less together than its requests would alone: a power cap, a throttled clock, a concave total.

Under a cap the heavy kinds are seen in full intervals most and look lighter than they are. So what a device really
drew is compared with what was expected of it, by level of expected power: where high levels fall short of low ones,
the shortfall is undone before intensities are learned, and the flatter the curve, the less an interval teaches.
Only ratios of intensities are used, so that the cap itself is divided as measured.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Saturation"]

_LEVELS: Final = 24
#: The lowest levels with this part of all intervals are taken to be free of it.
_FREE: Final = 0.25
#: Intervals in a level before it is believed, and a shortfall that is noise.
_ENOUGH: Final = 10.0
_NOISE: Final = 0.02
#: Levels to each side that tell a slope, and the least that one is taken for.
_REACH: Final = 2
_FLAT: Final = 0.1
_KEEP: Final = 0.998
_FIT_EVERY: Final = 32
#: A device is not thought to fall short by more than this.
_LEAST: Final = 0.3


class Saturation:
    """Measured over expected active power, by level of expected power."""

    __slots__ = ("_expected", "_gains", "_measured", "_number", "_seen", "_slopes", "_top")

    def __init__(self) -> None:
        self._top = 0.0
        self._seen = 0
        self._number = [0.0] * _LEVELS
        self._measured = [0.0] * _LEVELS
        self._expected = [0.0] * _LEVELS
        self._gains = [1.0] * _LEVELS
        self._slopes = [1.0] * _LEVELS

    def at(self, watts: float) -> tuple[float, float]:
        """Gain and slope where ``watts`` are expected of the requests in flight; 1 and 1 if nothing is known.

        The gain is the part of them that the device gives, the slope the part that it would give of one more watt:
        what a change of the measured power tells of the expected one.
        """
        if self._top <= 0.0:
            return 1.0, 1.0
        level = self._level(watts)
        return self._gains[level], self._slopes[level]

    def learn(self, expected: float, measured: float) -> None:
        """Active watts of one interval."""
        if expected <= 0.0:
            return
        if expected > self._top:
            self._stretch(expected)
        level = self._level(expected)
        self._number[level] = _KEEP * self._number[level] + 1.0
        self._measured[level] = _KEEP * self._measured[level] + measured
        self._expected[level] = _KEEP * self._expected[level] + expected
        self._seen += 1
        if self._seen % _FIT_EVERY == 0:
            self._fit()

    def _level(self, watts: float) -> int:
        return min(_LEVELS - 1, max(0, int(watts / self._top * _LEVELS)))

    def _stretch(self, top: float) -> None:
        """A higher level than any so far: what is known moves down."""
        old, self._top = self._top, 1.2 * top
        for sums in (self._number, self._measured, self._expected):
            moved = [0.0] * _LEVELS
            for level, value in enumerate(sums):
                if value:
                    moved[self._level((level + 0.5) / _LEVELS * old)] += value
            sums[:] = moved
        self._fit()

    def _fit(self) -> None:
        total = sum(self._number)
        free_measured = free_expected = number = 0.0
        for level in range(_LEVELS):
            if number >= _FREE * total:
                break
            number += self._number[level]
            free_measured += self._measured[level]
            free_expected += self._expected[level]
        gain = 1.0
        for level in range(_LEVELS):
            if self._number[level] >= _ENOUGH and free_measured > 0.0 and self._expected[level] > 0.0:
                found = self._measured[level] / self._expected[level] * free_expected / free_measured
                gain = min(gain, max(_LEAST, found))
            self._gains[level] = gain if gain < 1.0 - _NOISE else 1.0
        given = [gain * (level + 0.5) for level, gain in enumerate(self._gains)]
        for level, gain in enumerate(self._gains):
            if gain == 1.0:
                self._slopes[level] = 1.0
                continue
            low, high = max(0, level - _REACH), min(_LEVELS - 1, level + _REACH)
            self._slopes[level] = min(1.0, max(_FLAT, (given[high] - given[low]) / (high - low)))
