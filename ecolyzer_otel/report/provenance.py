"""Where every factor came from: the table that an auditor asks for."""

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
#: The gauge that tells a live factor's value over time.
_LIVE: Final = {"carbon": Metric.GRID_CARBON_INTENSITY, "marginal": Metric.GRID_MARGINAL_INTENSITY}
#: What gauges alone tell, from a meter that does not give ecolyzer_factor_info.
_PLAIN: Final[tuple[tuple[str, MetricSpec, str], ...]] = (
    ("carbon", Metric.GRID_CARBON_INTENSITY, "gCO2e/kWh"),
    ("market", Metric.GRID_MARKET_FACTOR, "gCO2e/kWh"),
    ("marginal", Metric.GRID_MARGINAL_INTENSITY, "gCO2/kWh"),
    ("pue", Metric.PUE, "1"),
    ("water", Metric.GRID_WATER_INTENSITY, "L/kWh"),
    ("wue", Metric.WUE, "L/kWh of IT"),
)


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor as it was used. ``used`` are the first and last day; ``year`` a year, ``live`` or empty."""

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
        """From when to when, in days."""
        first, last = day(self.first_s), day(max(self.first_s, self.last_s - 1.0))  # its end is not in it
        return first if first == last else f"{first} to {last}"

    @property
    def estimated(self) -> bool:
        """Whether its publisher estimated it, or it stands for another place."""
        return bool(re.search(r"estimat|derived|fallback", self.basis))

    @property
    def defaulted(self) -> bool:
        """Whether the place was not configured."""
        return self.kind == "carbon" and ("not configured" in self.basis or self.zone == "WORLD")


def provenance(seen: Observations) -> list[Factor]:
    """Every factor of the period, each once however many meters used it."""
    spans: dict[tuple[str, ...], list[Gauge]] = defaultdict(list)
    for series, gauge in seen.gauges.get(Metric.GRID_FACTOR.stem, {}).items():
        spans[series[1:]].append(gauge)
    found = [
        _factor(seen, labels, min(one.first_s for one in gauges), max(one.last_s for one in gauges))
        for labels, gauges in spans.items()
    ]
    told = {factor.kind for factor in found}
    for kind, spec, unit in _PLAIN:
        if kind not in told:
            found.extend(_plain(seen, kind, spec, unit))
    order = {kind: index for index, kind in enumerate(_ORDER)}
    return sorted(found, key=lambda one: (order.get(one.kind, 99), one.zone, one.first_s, one.value))


def _factor(seen: Observations, labels: tuple[str, ...], first: float, last: float) -> Factor:
    kind, zone, value, unit, basis, source, year = labels
    if not value and kind in _LIVE:
        value = _over_time(seen, _LIVE[kind], zone)
    return Factor(kind, zone, value, unit, basis, source, year, first, last)


def _over_time(seen: Observations, spec: MetricSpec, zone: str) -> str:
    gauges = [gauge for series, gauge in seen.gauges.get(spec.stem, {}).items() if series[1] == zone]
    if not gauges:
        return ""
    seconds = sum(gauge.seconds for gauge in gauges)
    weight = (lambda gauge: gauge.seconds) if seconds > 0.0 else (lambda _: 1.0)
    mean = sum(weight(gauge) * gauge.mean for gauge in gauges) / sum(map(weight, gauges))
    low, high = min(gauge.low for gauge in gauges), max(gauge.high for gauge in gauges)
    return digits(mean) if low == high else f"mean {digits(mean)} ({digits(low)} to {digits(high)})"


def _plain(seen: Observations, kind: str, spec: MetricSpec, unit: str) -> list[Factor]:
    spans: dict[tuple[str, str], list[Gauge]] = defaultdict(list)
    for (_, zone, source), gauge in seen.gauges.get(spec.stem, {}).items():
        spans[zone, source].append(gauge)
    return [
        Factor(
            kind, zone, _over_time(seen, spec, zone), unit, "", source, "",
            min(one.first_s for one in gauges), max(one.last_s for one in gauges),
        )
        for (zone, source), gauges in spans.items()
    ]  # fmt: skip
