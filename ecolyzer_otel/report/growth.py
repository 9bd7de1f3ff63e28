"""How much counters grew, from samples: resets, series born in between, and meters first seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ecolyzer_otel.names import Metric

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
        self._last: dict[tuple[str, Key], float] = {}
        #: Joules of meters first seen, and not young, that were left out.
        self.left_out: dict[str, float] = {}
        self._known: set[str] = set()
        self._seen: set[str] = set()

    def start(self, meter: str, key: Key, value: float) -> None:
        """The value before the period."""
        self._last[meter, key] = value
        self._known.add(meter)

    def to(self, meter: str, key: Key, value: float, window: Window | None) -> float:
        """The growth of a counter up to its value at the end of a step.

        Args:
            meter: whose.
            key: which.
            value: its last value in the step.
            window: all samples of the step, where they were read.
        """
        self._seen.add(meter)
        last = self._last.get((meter, key))
        self._last[meter, key] = value
        points = window.samples.get(key) if window is not None else None
        if points is None or window is None:
            if last is None:
                return value if meter in self._known else 0.0  # else: never seen, and its samples cannot be read
            return value - last if value >= last else value
        grown = 0.0
        for _, sample in points:
            if last is None:
                grown += self._first(meter, key, sample, window, points[0][0])
            else:
                grown += sample - last if sample >= last else sample
            last = sample
        return grown

    def settle(self) -> None:
        """A step is over: its meters are known from now on."""
        self._known |= self._seen

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
