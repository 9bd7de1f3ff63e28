"""A device that draws less together than its requests would alone: a power cap, a throttled clock, a concave total.

Under a cap the heavy kinds are seen in full intervals most and look lighter than they are. So what a device really
drew is compared with what was expected of it, by level of expected power: where high levels fall short of low ones,
the shortfall is undone before intensities are learned. Only ratios of intensities are used, so that the cap itself is
divided as measured.
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
_KEEP: Final = 0.998
#: A device is not thought to fall short by more than this.
_LEAST: Final = 0.3


class Saturation:
    """Measured over expected active power, by level of expected power."""

    __slots__ = ("_expected", "_gains", "_measured", "_number", "_seen", "_top")

    def __init__(self) -> None:
        self._top = 0.0
        self._seen = 0
        self._number = [0.0] * _LEVELS
        self._measured = [0.0] * _LEVELS
        self._expected = [0.0] * _LEVELS
        self._gains = [1.0] * _LEVELS

    def gain(self, watts: float) -> float:
        """Part of ``watts``, expected of the requests in flight, that the device is known to give; 1 if not known."""
        return self._gains[self._level(watts)] if self._top > 0.0 else 1.0

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
        if self._seen % 8 == 0:
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
