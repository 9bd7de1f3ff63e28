"""Every number of a report, computed once from the observations; pure functions, base units."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.impact.ess import ess
from ecolyzer_otel.report.devices import Device, devices, site, site_known, water_amounts
from ecolyzer_otel.report.observations import Observations
from ecolyzer_otel.report.ranges import NOT_CONFIGURED, UNKNOWN, Amount, Uncertainties, absent, quadrature, spread

__all__ = ["SCOPES", "Row", "Tables", "tables"]

#: Scopes of rows, and the labels that tell their rows apart.
SCOPES: Final[dict[str, tuple[str, ...]]] = {
    "total": (),
    "service": ("service",),
    "model": ("service", "model", "framework"),
    "route": ("service", "route"),
    "series": ("service", "model", "framework", "operation", "device", "route"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """What one service, model, route or everything together was charged: amounts by quantity."""

    scope: str
    labels: Mapping[str, str]
    amounts: Mapping[str, Amount]

    def value(self, quantity: str) -> float | None:
        """The bare value of a quantity, or None."""
        return self.amounts[quantity].value


@dataclass(frozen=True, slots=True)
class Tables:
    """The figures of a period, before they are judged or shown."""

    rows: Mapping[str, list[Row]]
    devices: list[Device]
    site: Mapping[str, Amount]
    embodied_configured: bool
    market_configured: bool

    @property
    def total(self) -> Row:
        """Everything that requests were charged."""
        return self.rows["total"][0]


def tables(seen: Observations) -> Tables:
    """All figures of the observations."""
    doubt = Uncertainties(seen)
    embodied, market = (
        _configured(seen, "embodied_", Metric.EMBODIED_RATE),
        _configured(seen, "market", Metric.GRID_MARKET_FACTOR),
    )
    sums = _Sums(seen, doubt, embodied, market)
    rows = {scope: sums.rows(scope) for scope in SCOPES}
    return Tables(rows, devices(seen), site(seen, doubt, embodied, market), embodied, market)


def _configured(seen: Observations, kind: str, gauge: MetricSpec) -> bool:
    """Whether some meter had such a factor: its own gauge, or a line in the provenance."""
    factors = seen.gauges.get(Metric.GRID_FACTOR.stem, {})
    return bool(seen.gauges.get(gauge.stem)) or any(series[1].startswith(kind) for series in factors)


class _Sums:
    """Sums of the counters by the labels of a scope, and the rows made of them."""

    def __init__(self, seen: Observations, doubt: Uncertainties, embodied: bool, market: bool) -> None:
        self._seen, self._doubt = seen, doubt
        self._embodied, self._market = embodied, market
        self._cooled = site_known(seen, Metric.WUE)
        self._parameters: dict[tuple[str, str], set[float]] = defaultdict(set)
        for (_, model, framework, _dtype), gauge in seen.gauges[Metric.MODEL_EFFECTIVE_PARAMETERS.stem].items():
            self._parameters[model, framework].add(gauge.last)

    def rows(self, scope: str) -> list[Row]:
        """The rows of a scope, by descending energy; the total is there even if nothing was charged."""
        labels = SCOPES[scope]
        energy = self._split(Metric.ENERGY, labels, "meter", "component", "share")
        requests = self._split(Metric.REQUESTS, labels, "status")
        keys = set(energy) | set(requests) | ({()} if not labels else set())
        grams = self._split(Metric.CO2E, labels, "meter", "scope")
        water = self._split(Metric.WATER, labels, "meter", "scope")
        others = {
            spec.stem: self._split(spec, labels, *extra)
            for spec, extra in (
                (Metric.MARKET_CO2E, ()), (Metric.MARGINAL_CO2E, ()), (Metric.ENERGY_UNCERTAINTY, ()),
                (Metric.TOKENS, ("kind",)), (Metric.ITEMS, ("kind",)),
            )
        }  # fmt: skip
        whole = _sum(value for parts in energy.values() for value in parts.values())
        made = [
            self._row(
                scope, key, requests.get(key, {}), energy.get(key, {}), grams.get(key, {}), water.get(key, {}),
                {stem: parts.get(key, {}) for stem, parts in others.items()}, whole,
            )
            for key in keys
        ]  # fmt: skip
        return sorted(made, key=lambda row: (-(row.value("energy") or 0.0), tuple(row.labels.values())))

    def _split(
        self, spec: MetricSpec, labels: tuple[str, ...], *extra: str
    ) -> dict[tuple[str, ...], dict[tuple[str, ...], float]]:
        found: dict[tuple[str, ...], dict[tuple[str, ...], float]] = defaultdict(dict)
        for key, value in self._seen.by(spec, *labels, *extra).items():
            found[key[: len(labels)]][key[len(labels) :]] = value
        return found

    def _row(
        self,
        scope: str,
        key: tuple[str, ...],
        requests: Mapping[tuple[str, ...], float],
        energy: Mapping[tuple[str, ...], float],
        grams: Mapping[tuple[str, ...], float],
        water: Mapping[tuple[str, ...], float],
        others: Mapping[str, Mapping[tuple[str, ...], float]],
        whole: float,
    ) -> Row:
        labels = dict(zip(SCOPES[scope], key, strict=True))
        amounts = {"requests": _counted(requests, "requests"), "errors": _counted(requests, "requests", "error")}
        for name, stem, kind in (
            ("items", Metric.ITEMS.stem, "input"),
            ("input_tokens", Metric.TOKENS.stem, "input"),
            ("output_tokens", Metric.TOKENS.stem, "output"),
        ):
            amounts[name] = _counted(others[stem], name.replace("_", " "), kind)
        gain = self._energy(amounts, scope, energy, others[Metric.ENERGY_UNCERTAINTY.stem])
        self._grams(amounts, gain, grams, others)
        self._water(amounts, gain, water)
        joules = amounts["energy"].value
        amounts["energy_share"] = (
            Amount(joules / whole, "1", basis="of all energy charged to requests")
            if joules is not None and whole > 0.0
            else absent("1", UNKNOWN)
        )
        self._intensities(amounts, labels)
        return Row(scope, labels, amounts)

    def _energy(
        self,
        amounts: dict[str, Amount],
        scope: str,
        energy: Mapping[tuple[str, ...], float],
        uncertainty: Mapping[tuple[str, ...], float],
    ) -> float | None:
        """Energy amounts; returns their relative standard uncertainty."""
        by_part: dict[tuple[str, str], float] = defaultdict(float)
        for (meter, component, _share), joules in energy.items():
            by_part[meter, component] += joules
        total = _sum(by_part.values())
        ratio, basis = self._doubt.gain(by_part), "sensors' gain"
        if scope != "total" and total > 0.0 and uncertainty:
            # In a total, what one request was charged too much another was charged too little.
            ratio = quadrature(ratio, _sum(uncertainty.values()) / total)
            basis = "sensors' gain and, at most, the division among requests"
        if not energy:
            amounts |= dict.fromkeys(("energy", "active_energy", "idle_energy"), absent("J", UNKNOWN))
            return None
        amounts["energy"] = spread(total, "J", ratio, basis)
        for share in ("active", "idle"):
            part = _sum(joules for key, joules in energy.items() if key[2] == share)
            amounts[f"{share}_energy"] = Amount(part, "J", basis=share)
        return ratio

    def _grams(
        self,
        amounts: dict[str, Amount],
        gain: float | None,
        grams: Mapping[tuple[str, ...], float],
        others: Mapping[str, Mapping[tuple[str, ...], float]],
    ) -> None:
        by_meter: dict[str, float] = defaultdict(float)
        embodied = []
        for (meter, scope), value in grams.items():
            if scope == "operational":
                by_meter[meter] += value
            else:
                embodied.append(value)
        amounts["co2e_operational"] = (
            spread(
                _sum(by_meter.values()), "g", quadrature(gain, self._doubt.grid(by_meter)),
                "location-based; energy and grid intensity",
            )
            if by_meter
            else absent("g", UNKNOWN)
        )  # fmt: skip
        amounts["co2e_embodied"] = (
            Amount(_sum(embodied), "g", basis="embodied, amortised by time in flight")
            if self._embodied and embodied
            else absent("g", NOT_CONFIGURED if not self._embodied else UNKNOWN)
        )
        for name, spec, basis in (
            ("co2e_market", Metric.MARKET_CO2E, "market-based; energy"),
            ("co2e_marginal", Metric.MARGINAL_CO2E, "marginal intensity; energy"),
        ):
            found = others[spec.stem]
            known = bool(found) and (self._market or name != "co2e_market")
            amounts[name] = spread(_sum(found.values()), "g", gain, basis) if known else absent("g", NOT_CONFIGURED)

    def _water(
        self, amounts: dict[str, Amount], gain: float | None, water: Mapping[tuple[str, ...], float]
    ) -> None:
        if not water:
            names = ("water", "water_onsite", "water_offsite")
            amounts |= dict.fromkeys(names, absent("L", UNKNOWN))
            return
        onsite = _sum(value for (_, scope), value in water.items() if scope == "onsite")
        by_meter: dict[str, float] = defaultdict(float)
        for (meter, scope), value in water.items():
            if scope == "offsite":
                by_meter[meter] += value
        amounts |= water_amounts(onsite, by_meter, gain, self._doubt, cooled=self._cooled)

    def _intensities(self, amounts: dict[str, Amount], labels: Mapping[str, str]) -> None:
        """What one request, or a million tokens, costs; SCI where embodied emissions are known; ESS of a model."""
        requests = amounts["requests"].value
        read, written = amounts["input_tokens"].value, amounts["output_tokens"].value
        tokens = (read or 0.0) + (written or 0.0)
        amounts["energy_per_request"] = amounts["energy"].per(requests, "J/request")
        amounts["co2e_per_request"] = amounts["co2e_operational"].per(requests, "g/request")
        amounts["water_per_request"] = amounts["water"].per(requests, "L/request")
        amounts["energy_per_million_tokens"] = amounts["energy"].per(tokens / 1e6, "J/million tokens", "no tokens")
        emitted = amounts["co2e_operational"].plus(amounts["co2e_embodied"])
        amounts["sci_per_request"] = emitted.per(requests, "g/request")
        amounts["sci_per_million_tokens"] = emitted.per(tokens / 1e6, "g/million tokens", "no tokens")
        known = self._parameters.get((labels.get("model", ""), labels.get("framework", "")), set())
        why = "several sizes" if len(known) > 1 else "size unknown"
        amounts["ess"] = (
            _score(next(iter(known)), requests, amounts["co2e_operational"])
            if len(known) == 1
            else (absent("million parameters/g", why))
        )


def _score(parameters: float, requests: float | None, grams: Amount) -> Amount:
    """ESS over the period: P x requests / sum of operational grams (arXiv 2511.06694); low grams score high."""
    unit = "million parameters/g"

    def of(value: float | None) -> float | None:
        return None if value is None else ess(parameters * (requests or 0.0), value)

    value = of(grams.value)
    if value is None:
        return absent(unit, "no grams")
    return Amount(value, unit, of(grams.high), of(grams.low), "operational grams")


def _counted(parts: Mapping[tuple[str, ...], float], unit: str, kind: str | None = None) -> Amount:
    if not parts:
        return absent(unit, "none counted")
    return Amount(
        _sum(value for key, value in parts.items() if kind is None or key[0] == kind), unit, basis="count"
    )


def _sum(values: Iterable[float]) -> float:
    return math.fsum(values)
