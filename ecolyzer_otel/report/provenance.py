"""The provenance of every factor: the table that an audit requires."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.report.observations import Gauge, Observations
from ecolyzer_otel.report.units import day, digits

__all__ = ["Factor", "provenance"]

_ORDER: Final = ("carbon", "market", "marginal", "pue", "water", "wue", "embodied_server", "embodied_gpu")
#: The gauges that hold the values of live factors over time.
_LIVE_GAUGES: Final = {"carbon": Metric.GRID_CARBON_INTENSITY, "marginal": Metric.GRID_MARGINAL_INTENSITY}
#: The gauges of factors, for meters without ``ecolyzer_factor_info``: kind, gauge, unit.
_GAUGES: Final[tuple[tuple[str, MetricSpec, str], ...]] = (
    ("carbon", Metric.GRID_CARBON_INTENSITY, "gCO2e/kWh"),
    ("market", Metric.GRID_MARKET_FACTOR, "gCO2e/kWh"),
    ("marginal", Metric.GRID_MARGINAL_INTENSITY, "gCO2/kWh"),
    ("pue", Metric.PUE, "1"),
    ("water", Metric.GRID_WATER_INTENSITY, "L/kWh"),
    ("wue", Metric.WUE, "L/kWh of IT"),
)


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor of the period. ``year`` is a year, ``live`` or empty."""

    kind: str
    zone: str
    value: str
    unit: str
    basis: str
    source: str
    year: str
    first_s: float
    last_s: float

    @property
    def used(self) -> str:
        """The first and the last day of its use."""
        first, last = day(self.first_s), day(max(self.first_s, self.last_s - 1.0))  # the end is exclusive
        return first if first == last else f"{first} to {last}"

    @property
    def estimated(self) -> bool:
        """Whether it is estimated, derived, or the factor of another location."""
        return bool(re.search(r"estimat|derived|fallback", self.basis))

    @property
    def defaulted(self) -> bool:
        """Whether it is used because no location was configured."""
        return self.kind == "carbon" and ("not configured" in self.basis or self.zone == "WORLD")


def provenance(observed: Observations) -> list[Factor]:
    """Every factor of the period, once for all meters that used it."""
    spans: dict[tuple[str, ...], list[Gauge]] = defaultdict(list)
    for series, gauge in observed.gauges.get(Metric.GRID_FACTOR.stem, {}).items():
        spans[series[1:]].append(gauge)
    found = [
        _factor(observed, labels, min(one.first_s for one in gauges), max(one.last_s for one in gauges))
        for labels, gauges in spans.items()
    ]
    kinds = {factor.kind for factor in found}
    for kind, spec, unit in _GAUGES:
        if kind not in kinds:
            found.extend(_from_gauge(observed, kind, spec, unit))
    order = {kind: index for index, kind in enumerate(_ORDER)}
    return sorted(found, key=lambda one: (order.get(one.kind, 99), one.zone, one.first_s, one.value))


def _factor(observed: Observations, labels: tuple[str, ...], first: float, last: float) -> Factor:
    kind, zone, value, unit, basis, source, year = labels
    if not value and kind in _LIVE_GAUGES:
        value = _live_value(observed, _LIVE_GAUGES[kind], zone)
    return Factor(kind, zone, value, unit, basis, source, year, first, last)


def _live_value(observed: Observations, spec: MetricSpec, zone: str) -> str:
    gauges = [gauge for series, gauge in observed.gauges.get(spec.stem, {}).items() if series[1] == zone]
    if not gauges:
        return ""
    seconds = sum(gauge.seconds for gauge in gauges)
    weight = (lambda gauge: gauge.seconds) if seconds > 0.0 else (lambda _: 1.0)
    mean = sum(weight(gauge) * gauge.mean for gauge in gauges) / sum(map(weight, gauges))
    low, high = min(gauge.low for gauge in gauges), max(gauge.high for gauge in gauges)
    return digits(mean) if low == high else f"mean {digits(mean)} ({digits(low)} to {digits(high)})"


def _from_gauge(observed: Observations, kind: str, spec: MetricSpec, unit: str) -> list[Factor]:
    spans: dict[tuple[str, str], list[Gauge]] = defaultdict(list)
    for (_, zone, source), gauge in observed.gauges.get(spec.stem, {}).items():
        spans[zone, source].append(gauge)
    return [
        Factor(
            kind, zone, _live_value(observed, spec, zone), unit, "", source, "",
            min(one.first_s for one in gauges), max(one.last_s for one in gauges),
        )
        for (zone, source), gauges in spans.items()
    ]  # fmt: skip
