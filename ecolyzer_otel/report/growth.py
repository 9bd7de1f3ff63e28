"""Increases of counters from samples: restarts of meters, series that begin in between, meters seen first."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from ecolyzer_otel.common.metrics import Metric

__all__ = ["Growth", "Key", "Window"]

#: A meter has just started if it is first seen with no more energy than so many seconds of its present power.
#: Its first values then count in full.
_JUST_STARTED_SECONDS: Final = 900.0
#: The same by the CPU time of the meter itself, where its devices' power is missing.
_JUST_STARTED_CPU_SECONDS: Final = 5.0

#: Stem, part of a histogram, label values.
Key = tuple[str, ...]


@dataclass(slots=True)
class Window:
    """All samples of one meter in one step.

    ``new``: the meter is first seen in this step; ``watts``: the power of its devices at the first sample.
    """

    new: bool
    samples: dict[Key, list[tuple[float, float]]] = field(default_factory=dict)
    watts: float = 0.0
    #: The times of the first samples after each restart.
    restarts: list[float] = field(default_factory=list)
    #: Counters without a sample since the last restart.
    gone: set[Key] = field(default_factory=set)

    def first(self, stem: str) -> float:
        """The sum of the first values of all series of a counter."""
        return sum(points[0][1] for key, points in self.samples.items() if key[0] == stem and points)

    @property
    def just_started(self) -> bool:
        """Whether the first values of a new meter can only be from within the step, or little more."""
        if self.watts > 0.0:
            return self.first(Metric.DEVICE_ENERGY.stem) <= _JUST_STARTED_SECONDS * self.watts
        return self.first(Metric.METER_CPU.stem) <= _JUST_STARTED_CPU_SECONDS


class Growth:
    """The last value of every counter of every meter, and its increase since then."""

    def __init__(self) -> None:
        self._last: dict[str, dict[Key, float]] = defaultdict(dict)
        #: Joules by meter that are left out: counted before the meter was first seen.
        self.left_out: dict[str, float] = {}
        self._registered: set[str] = set()

    def set_baseline(self, meter: str, key: Key, value: float) -> None:
        """Set the value of a counter at the start of the period."""
        self._last[meter][key] = value
        self._registered.add(meter)

    def has_reset(self, meter: str, key: Key, value: float) -> bool:
        """Whether a counter is below its last value, so that its meter has restarted."""
        return value < self._last[meter].get(key, 0.0)

    def find_restarts(self, meter: str, window: Window) -> int:
        """Find the restarts of a meter within a step; returns their number.

        A counter that soon exceeds its earlier value does not show the reset. So a restart is found by any counter
        of the meter that fell, and holds for all: counters without a sample since then count from 0 when they
        return.
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

    def advance(self, meter: str, key: Key, value: float, window: Window | None) -> float:
        """Advance a counter to its value at the end of a step; returns its increase.

        Args:
            meter: the meter of the counter.
            key: the counter.
            value: its last value in the step.
            window: all samples of the step, after :meth:`find_restarts`; None where they were not read.
        """
        last = self._last[meter].get(key)
        self._last[meter][key] = 0.0 if window is not None and key in window.gone else value
        points = window.samples.get(key) if window is not None else None
        if points is None or window is None:
            if last is None:
                # A meter that is not registered is new, and its samples could not be read.
                return value if meter in self._registered else 0.0
            return value - last if value >= last else value
        increase, before = 0.0, float("-inf")
        for at, sample in points:
            if last is None:
                increase += self._first_increase(meter, key, sample, window, at)
            else:
                reset = sample < last or bisect_right(window.restarts, before) < bisect_right(window.restarts, at)
                increase += sample if reset else sample - last
            last, before = sample, at
        return increase

    def register(self, meters: set[str]) -> None:
        """Register the meters of a finished step: their new series count from 0 from now on."""
        self._registered |= meters

    def _first_increase(self, meter: str, key: Key, sample: float, window: Window, at: float) -> float:
        """The increase at the first sample of a series: from 0 if it began after its meter was first scraped."""
        if not window.new or meter in self._registered or window.just_started:
            return sample
        begin = min(points[0][0] for points in window.samples.values() if points)
        if at > begin:
            return sample
        if key[0] == Metric.DEVICE_ENERGY.stem:
            self.left_out[meter] = self.left_out.get(meter, 0.0) + sample
        return 0.0
