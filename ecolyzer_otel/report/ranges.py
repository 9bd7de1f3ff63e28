"""Values with their ranges: which uncertainties there are, and how they combine.

A range is two standard uncertainties either way on the logarithm, so that it holds the truth in some 95 of 100
cases and its lower end stays above 0 (lognormal, as the grid factors' pedigree: GHG Protocol, Quantitative
Uncertainty Guidance, 2011). Independent causes add in quadrature (GUM, JCGM 100:2008, 5.1.2); one sensor's gain is
the same for all of its joules, so gains of joules add linearly.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.report.observations import Observations

__all__ = ["NOT_CONFIGURED", "UNKNOWN", "Amount", "Uncertainties", "absent", "quadrature", "spread"]

#: Why there is no figure.
NOT_CONFIGURED: Final = "not configured"
UNKNOWN: Final = "unknown"
#: Half of a 95 % range in standard uncertainties.
COVERAGE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Amount:
    """A figure: its value in base units, its 95 % range, how it was found, or why there is none.

    ``value`` None is unknown, which is never 0; ``why`` then says what is missing.
    """

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    basis: str = ""
    why: str = ""

    def per(self, number: float | None, unit: str, why: str = "none counted") -> Amount:
        """Divided by an exact number; None or 0 of them leave nothing to say, which is ``why``."""
        if self.value is None:
            return replace(self, unit=unit)
        if not number:
            return absent(unit, why)
        low, high = (None if end is None else end / number for end in (self.low, self.high))
        return Amount(self.value / number, unit, low, high, self.basis)

    def plus(self, other: Amount) -> Amount:
        """With an amount added that has no range of its own: the range moves along."""
        if self.value is None or other.value is None:
            return absent(self.unit, self.why or other.why)
        low, high = (None if end is None else end + other.value for end in (self.low, self.high))
        return Amount(self.value + other.value, self.unit, low, high, f"{self.basis}; {other.basis}")


def absent(unit: str, why: str) -> Amount:
    """A figure that there is not."""
    return Amount(None, unit, why=why)


def quadrature(*ratios: float | None) -> float | None:
    """Independent relative standard uncertainties together; None where one is not known."""
    known = [ratio for ratio in ratios if ratio is not None]
    return math.sqrt(math.fsum(ratio * ratio for ratio in known)) if len(known) == len(ratios) else None


def spread(
    value: float,
    unit: str,
    ratio: float | None,
    basis: str,
    ends: tuple[float, float] | None = None,
) -> Amount:
    """``value`` with its 95 % range.

    Args:
        value: at least 0.
        unit: its base unit.
        ratio: relative standard uncertainty; None: not known, so there is no range.
        basis: how the value was found.
        ends: a range that another cause alone would give (water), combined with ``ratio`` in quadrature.
    """
    if ratio is None or not value > 0.0:
        return Amount(value, unit, basis=basis)
    below = above = COVERAGE * ratio
    if ends is not None and 0.0 < ends[0] <= value <= ends[1]:
        below = math.hypot(below, math.log(value / ends[0]))
        above = math.hypot(above, math.log(ends[1] / value))
    return Amount(value, unit, value * math.exp(-below), value * math.exp(above), basis)


class Uncertainties:
    """The relative standard uncertainties that the meters tell of, weighted for any set of series."""

    def __init__(self, seen: Observations) -> None:
        ratios = {series: gauge.mean for series, gauge in seen.gauges[Metric.SENSOR_UNCERTAINTY.stem].items()}
        weights: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        self.joules = self.known_joules = 0.0
        for (meter, device, component, method), joules in seen.by(
            Metric.DEVICE_ENERGY, "meter", "device", "component", "method"
        ).items():
            self.joules += joules
            ratio = ratios.get((meter, device, method))
            if ratio is not None and joules > 0.0:
                self.known_joules += joules
                weights[meter, component].append((joules, ratio))
        self._gains = {key: _weighted(pairs) for key, pairs in weights.items()}
        self._grid = _by_meter(seen, Metric.GRID_CARBON_UNCERTAINTY.stem)
        ewif, low, high = (
            _by_meter(seen, spec.stem)
            for spec in (Metric.GRID_WATER_INTENSITY, Metric.GRID_WATER_LOW, Metric.GRID_WATER_HIGH)
        )
        self._water = {
            meter: (low[meter] / value, high[meter] / value)
            for meter, value in ewif.items()
            if value > 0.0 and meter in low and meter in high
        }

    def gain(self, joules: Mapping[tuple[str, str], float]) -> float | None:
        """Of joules by (meter, component): the joule-weighted uncertainty of the sensors' gain.

        Joules of sensors that tell no uncertainty are taken to be as uncertain as the others.
        """
        pairs = [(value, self._gains[key]) for key, value in joules.items() if key in self._gains]
        return _weighted(pairs) if pairs else None

    def grid(self, grams: Mapping[str, float]) -> float | None:
        """Of operational grams by meter: that of the carbon intensities, as if all were wrong the same way."""
        pairs = [(value, self._grid[meter]) for meter, value in grams.items() if meter in self._grid]
        return _weighted(pairs) if pairs else None

    def water(self, offsite: Mapping[str, float]) -> tuple[float, float] | None:
        """Lowest and highest off-site litres, for off-site litres by meter."""
        if not offsite or not all(meter in self._water for meter in offsite):
            return None
        low = math.fsum(value * self._water[meter][0] for meter, value in offsite.items())
        return low, math.fsum(value * self._water[meter][1] for meter, value in offsite.items())


def _weighted(pairs: list[tuple[float, float]]) -> float:
    total = math.fsum(weight for weight, _ in pairs)
    if not total > 0.0:
        return math.fsum(ratio for _, ratio in pairs) / len(pairs)
    return math.fsum(weight * ratio for weight, ratio in pairs) / total


def _by_meter(seen: Observations, stem: str) -> dict[str, float]:
    """The mean of a gauge over the time of each meter, whatever its other labels were."""
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for series, gauge in seen.gauges.get(stem, {}).items():
        pairs[series[0]].append((gauge.seconds, gauge.mean))
    return {meter: _weighted(values) for meter, values in pairs.items()}
