"""Values with their 95 % ranges: the uncertainties, and how they combine.

A range is two standard uncertainties either way on the logarithm, so that it holds the true value in some 95 of 100
cases and its lower end stays above 0 (lognormal, as the grid factors' pedigree: GHG Protocol, Quantitative
Uncertainty Guidance, 2011). Independent causes add in quadrature (GUM, JCGM 100:2008, 5.1.2). The gain error of
a sensor is the same for all of its joules, so gain errors add linearly.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.report.observations import Observations

__all__ = ["COVERAGE", "NOT_CONFIGURED", "UNKNOWN", "Amount", "Uncertainties", "absent", "quadrature", "with_range"]

#: Reasons for an absent figure.
NOT_CONFIGURED: Final = "not configured"
UNKNOWN: Final = "unknown"
#: Half of a 95 % range in standard uncertainties.
COVERAGE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Amount:
    """A figure: its value in base units, its 95 % range and its basis, or the reason why it is absent.

    ``value`` None means unknown, which is never 0; ``why`` is then the reason.
    """

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    basis: str = ""
    why: str = ""

    def per(self, number: float | None, unit: str, why: str = "none counted") -> Amount:
        """The amount divided by an exact number; absent with the reason ``why`` if that is None or 0."""
        if self.value is None:
            return replace(self, unit=unit)
        if not number:
            return absent(unit, why)
        low, high = (None if end is None else end / number for end in (self.low, self.high))
        return Amount(self.value / number, unit, low, high, self.basis)

    def plus(self, other: Amount) -> Amount:
        """The sum with an amount that has no range of its own: the range is shifted."""
        if self.value is None or other.value is None:
            return absent(self.unit, self.why or other.why)
        low, high = (None if end is None else end + other.value for end in (self.low, self.high))
        return Amount(self.value + other.value, self.unit, low, high, f"{self.basis}; {other.basis}")


def absent(unit: str, why: str) -> Amount:
    """An absent figure."""
    return Amount(None, unit, why=why)


def quadrature(*ratios: float | None) -> float | None:
    """The combination of independent relative standard uncertainties; None if one of them is missing."""
    given = [ratio for ratio in ratios if ratio is not None]
    return math.sqrt(math.fsum(ratio * ratio for ratio in given)) if len(given) == len(ratios) else None


def with_range(
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
        ratio: relative standard uncertainty; None if it is missing, and then there is no range.
        basis: where the value and its range come from.
        ends: the range from another cause (water intensity), combined with ``ratio`` in quadrature.
    """
    if ratio is None or not value > 0.0:
        return Amount(value, unit, basis=basis)
    below = above = COVERAGE * ratio
    if ends is not None and 0.0 < ends[0] <= value <= ends[1]:
        below = math.hypot(below, math.log(value / ends[0]))
        above = math.hypot(above, math.log(ends[1] / value))
    return Amount(value, unit, value * math.exp(-below), value * math.exp(above), basis)


class Uncertainties:
    """The relative standard uncertainties that the meters report, weighted for any set of series."""

    def __init__(self, observed: Observations) -> None:
        ratios = {series: gauge.mean for series, gauge in observed.gauges[Metric.SENSOR_UNCERTAINTY.stem].items()}
        weights: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        for (meter, device, component, method), joules in observed.by(
            Metric.DEVICE_ENERGY, "meter", "device", "component", "method"
        ).items():
            ratio = ratios.get((meter, device, method))
            if ratio is not None and joules > 0.0:
                weights[meter, component].append((joules, ratio))
        self._gains = {key: _weighted(pairs) for key, pairs in weights.items()}
        self._grid = _by_meter(observed, Metric.GRID_CARBON_UNCERTAINTY.stem)
        ewif, low, high = (
            _by_meter(observed, spec.stem)
            for spec in (Metric.GRID_WATER_INTENSITY, Metric.GRID_WATER_LOW, Metric.GRID_WATER_HIGH)
        )
        self._water = {
            meter: (low[meter] / value, high[meter] / value)
            for meter, value in ewif.items()
            if value > 0.0 and meter in low and meter in high
        }

    def gain(self, joules: Mapping[tuple[str, str], float]) -> float | None:
        """The joule-weighted uncertainty of the sensors' gain, for joules by (meter, component).

        Joules of sensors that report no uncertainty are taken to be as uncertain as the others.
        """
        pairs = [(value, self._gains[key]) for key, value in joules.items() if key in self._gains]
        return _weighted(pairs) if pairs else None

    def grid(self, grams: Mapping[str, float]) -> float | None:
        """The uncertainty of the carbon intensities, for operational grams by meter; taken as fully correlated."""
        pairs = [(value, self._grid[meter]) for meter, value in grams.items() if meter in self._grid]
        return _weighted(pairs) if pairs else None

    def water(self, offsite: Mapping[str, float]) -> tuple[float, float] | None:
        """The lowest and highest off-site litres, for off-site litres by meter."""
        if not offsite or not all(meter in self._water for meter in offsite):
            return None
        low = math.fsum(value * self._water[meter][0] for meter, value in offsite.items())
        return low, math.fsum(value * self._water[meter][1] for meter, value in offsite.items())


def _weighted(pairs: list[tuple[float, float]]) -> float:
    total = math.fsum(weight for weight, _ in pairs)
    if not total > 0.0:
        return math.fsum(ratio for _, ratio in pairs) / len(pairs)
    return math.fsum(weight * ratio for weight, ratio in pairs) / total


def _by_meter(observed: Observations, stem: str) -> dict[str, float]:
    """The time-weighted mean of a gauge for each meter, over all of its other labels."""
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for series, gauge in observed.gauges.get(stem, {}).items():
        pairs[series[0]].append((gauge.seconds, gauge.mean))
    return {meter: _weighted(values) for meter, values in pairs.items()}
