"""How much counters grew, from samples: restarts, series born in between, and meters first seen."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from ecolyzer_otel.common.metrics import Metric

__all__ = ["Growth", "Window"]

#: A meter first seen with energy for at most so many seconds of its present power has just begun: all counts.
_YOUNG_SECONDS: Final = 900.0
#: The same by the meter's own CPU time, where no power is known.
_YOUNG_CPU_SECONDS: Final = 5.0

#: Stem, part of a histogram, label values.
Key = tuple[str, ...]


@dataclass(slots=True)
class Window:
    """All samples of one meter in one step. ``watts``: of its devices at first; ``new``: first seen here."""

    new: bool
    samples: dict[Key, list[tuple[float, float]]] = field(default_factory=dict)
    watts: float = 0.0
    #: When the meter had begun anew: the times of the first samples after it.
    restarts: list[float] = field(default_factory=list)
    #: Counters that were not seen after the last restart.
    gone: set[Key] = field(default_factory=set)

    def first(self, stem: str) -> float:
        """The sum of a counter's series when they were first seen."""
        return sum(points[0][1] for key, points in self.samples.items() if key[0] == stem and points)

    @property
    def young(self) -> bool:
        """Whether a new meter's first values can only be from within the step, or little more."""
        if self.watts > 0.0:
            return self.first(Metric.DEVICE_ENERGY.stem) <= _YOUNG_SECONDS * self.watts
        return self.first(Metric.METER_CPU.stem) <= _YOUNG_CPU_SECONDS


class Growth:
    """The last value of every counter of every meter, and what each grew by since."""

    def __init__(self) -> None:
        self._last: dict[str, dict[Key, float]] = defaultdict(dict)
        #: Joules of meters first seen, and not young, that were left out.
        self.left_out: dict[str, float] = {}
        self._known: set[str] = set()

    def start(self, meter: str, key: Key, value: float) -> None:
        """The value before the period."""
        self._last[meter][key] = value
        self._known.add(meter)

    def fell(self, meter: str, key: Key, value: float) -> bool:
        """Whether a counter is below its last value: its meter restarted."""
        return value < self._last[meter].get(key, 0.0)

    def restart(self, meter: str, window: Window) -> int:
        """Find when a meter restarted within a step; returns how often.

        A counter that has soon outgrown its earlier life does not show it. So the restart is found by any of the
        meter's counters that fell, and holds for all: those not seen since count from 0 when they come back.
        """
        last, falls = self._last[meter], set()
        for key, points in window.samples.items():
            before = last.get(key, 0.0)
            for at, value in points:
                if value < before:
                    falls.add(at)
                before = value
        window.restarts = sorted(falls)
        if falls:
            window.gone = {
                key for key, points in window.samples.items() if not points or points[-1][0] < window.restarts[-1]
            }
            last.update(dict.fromkeys(last.keys() - window.samples.keys(), 0.0))
        return len(falls)

    def to(self, meter: str, key: Key, value: float, window: Window | None) -> float:
        """The growth of a counter up to its value at the end of a step.

        Args:
            meter: whose.
            key: which.
            value: its last value in the step.
            window: all samples of the step, where they were read and :meth:`restart` has seen them.
        """
        last = self._last[meter].get(key)
        self._last[meter][key] = 0.0 if window is not None and key in window.gone else value
        points = window.samples.get(key) if window is not None else None
        if points is None or window is None:
            if last is None:
                return value if meter in self._known else 0.0  # else: never seen, and its samples cannot be read
            return value - last if value >= last else value
        grown, before = 0.0, float("-inf")
        for at, sample in points:
            if last is None:
                grown += self._first(meter, key, sample, window, at)
            else:
                anew = sample < last or bisect_right(window.restarts, before) < bisect_right(window.restarts, at)
                grown += sample if anew else sample - last
            last, before = sample, at
        return grown

    def settle(self, meters: set[str]) -> None:
        """A step is over: the meters seen in it are known from now on."""
        self._known |= meters

    def _first(self, meter: str, key: Key, sample: float, window: Window, at: float) -> float:
        """The first sample of a series. One born after its meter was first scraped counts from 0."""
        if not window.new or meter in self._known or window.young:
            return sample
        begin = min(points[0][0] for points in window.samples.values() if points)
        if at > begin:
            return sample
        if key[0] == Metric.DEVICE_ENERGY.stem:
            self.left_out[meter] = self.left_out.get(meter, 0.0) + sample
        return 0.0
