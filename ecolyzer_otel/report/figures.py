"""All figures of a report, computed once from the observations: pure functions, base units."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.impact.ess import ess
from ecolyzer_otel.report.devices import Configured, Device, devices, site, site_factor_configured, water_amounts
from ecolyzer_otel.report.observations import Observations
from ecolyzer_otel.report.ranges import (
    NOT_CONFIGURED,
    UNKNOWN,
    Amount,
    Uncertainties,
    absent,
    quadrature,
    with_range,
)

__all__ = ["SCOPES", "Row", "Tables", "tables"]

#: Scopes of rows, and the labels by which the rows of each differ.
SCOPES: Final[dict[str, tuple[str, ...]]] = {
    "total": (),
    "service": ("service",),
    "model": ("service", "model", "framework"),
    "route": ("service", "route"),
    "series": ("service", "model", "framework", "operation", "device", "route"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """The amounts charged to one service, model or route, or to all requests together, by quantity."""

    scope: str
    labels: Mapping[str, str]
    amounts: Mapping[str, Amount]

    def value(self, quantity: str) -> float | None:
        """The value of a quantity, or None."""
        return self.amounts[quantity].value


@dataclass(frozen=True, slots=True)
class Tables:
    """The figures of a period, before they are assessed or shown."""

    rows: Mapping[str, list[Row]]
    devices: list[Device]
    site: Mapping[str, Amount]
    configured: Configured

    @property
    def total(self) -> Row:
        """The amounts charged to all requests together."""
        return self.rows["total"][0]


def tables(observed: Observations) -> Tables:
    """All figures of the observations."""
    uncertainties = Uncertainties(observed)
    configured = Configured(
        embodied=_configured(observed, "embodied_", Metric.EMBODIED_RATE),
        market=_configured(observed, "market", Metric.GRID_MARKET_FACTOR),
    )
    sums = _Sums(observed, uncertainties, configured)
    rows = {scope: sums.rows(scope) for scope in SCOPES}
    return Tables(rows, devices(observed), site(observed, uncertainties, configured), configured)


def _configured(observed: Observations, kind: str, gauge: MetricSpec) -> bool:
    """Whether some meter had such a factor: by its own gauge, or by ``ecolyzer_factor_info``."""
    factors = observed.gauges.get(Metric.GRID_FACTOR.stem, {})
    return bool(observed.gauges.get(gauge.stem)) or any(series[1].startswith(kind) for series in factors)


#: Sums of a counter by the values of some of its labels.
_Sum = Mapping[tuple[str, ...], float]


@dataclass(slots=True)
class _Parts:
    """The sums that one row is made of; in parentheses the labels that they are still divided by."""

    requests: _Sum = field(default_factory=dict)  # (status)
    energy: _Sum = field(default_factory=dict)  # (meter, component, share)
    grams: _Sum = field(default_factory=dict)  # (meter, scope)
    water: _Sum = field(default_factory=dict)  # (meter, scope)
    market: _Sum = field(default_factory=dict)
    marginal: _Sum = field(default_factory=dict)
    uncertainty: _Sum = field(default_factory=dict)
    tokens: _Sum = field(default_factory=dict)  # (kind)
    items: _Sum = field(default_factory=dict)  # (kind)


#: By field of :class:`_Parts`: the counter, and the labels to divide it by beside those of the scope.
_PARTS: Final[dict[str, tuple[MetricSpec, tuple[str, ...]]]] = {
    "requests": (Metric.REQUESTS, ("status",)),
    "energy": (Metric.ENERGY, ("meter", "component", "share")),
    "grams": (Metric.CO2E, ("meter", "scope")),
    "water": (Metric.WATER, ("meter", "scope")),
    "market": (Metric.MARKET_CO2E, ()),
    "marginal": (Metric.MARGINAL_CO2E, ()),
    "uncertainty": (Metric.ENERGY_UNCERTAINTY, ()),
    "tokens": (Metric.TOKENS, ("kind",)),
    "items": (Metric.ITEMS, ("kind",)),
}


class _Sums:
    """Sums of the counters by the labels of a scope, and the rows made of them."""

    def __init__(self, observed: Observations, uncertainties: Uncertainties, configured: Configured) -> None:
        self._observed, self._uncertainties, self._configured = observed, uncertainties, configured
        self._cooled = site_factor_configured(observed, Metric.WUE)
        self._parameters: dict[tuple[str, str], set[float]] = defaultdict(set)
        for (_, model, framework, _dtype), gauge in observed.gauges[Metric.MODEL_EFFECTIVE_PARAMETERS.stem].items():
            self._parameters[model, framework].add(gauge.last)

    def rows(self, scope: str) -> list[Row]:
        """The rows of a scope by descending energy. The total exists even if nothing was charged."""
        labels = SCOPES[scope]
        split = {name: self._split(spec, labels, *extra) for name, (spec, extra) in _PARTS.items()}
        keys = set(split["energy"]) | set(split["requests"]) | ({()} if not labels else set())
        total = _sum(value for sums in split["energy"].values() for value in sums.values())
        rows = []
        for key in keys:
            parts = _Parts(**{name: sums[key] for name, sums in split.items() if key in sums})
            row_labels = dict(zip(labels, key, strict=True))
            rows.append(Row(scope, row_labels, self._amounts(scope, row_labels, parts, total)))
        return sorted(rows, key=lambda row: (-(row.value("energy") or 0.0), tuple(row.labels.values())))

    def _split(
        self, spec: MetricSpec, labels: tuple[str, ...], *extra: str
    ) -> dict[tuple[str, ...], dict[tuple[str, ...], float]]:
        found: dict[tuple[str, ...], dict[tuple[str, ...], float]] = defaultdict(dict)
        for key, value in self._observed.by(spec, *labels, *extra).items():
            found[key[: len(labels)]][key[len(labels) :]] = value
        return found

    def _amounts(self, scope: str, labels: Mapping[str, str], parts: _Parts, total: float) -> dict[str, Amount]:
        """The amounts of a row; ``total``: joules of all rows of the scope."""
        amounts = {
            "requests": _counted(parts.requests, "requests"),
            "errors": _counted(parts.requests, "requests", "error"),
            "items": _counted(parts.items, "items", "input"),
            "input_tokens": _counted(parts.tokens, "input tokens", "input"),
            "output_tokens": _counted(parts.tokens, "output tokens", "output"),
        }
        gain = self._add_energy(amounts, scope, parts)
        self._add_grams(amounts, gain, parts)
        self._add_water(amounts, gain, parts.water)
        joules = amounts["energy"].value
        amounts["energy_share"] = (
            Amount(joules / total, "1", basis="of all energy charged to requests")
            if joules is not None and total > 0.0
            else absent("1", UNKNOWN)
        )
        self._add_intensities(amounts, labels)
        return amounts

    def _add_energy(self, amounts: dict[str, Amount], scope: str, parts: _Parts) -> float | None:
        """Add the energy amounts; returns their relative standard uncertainty."""
        if not parts.energy:
            amounts |= dict.fromkeys(("energy", "active_energy", "idle_energy"), absent("J", UNKNOWN))
            return None
        by_component: dict[tuple[str, str], float] = defaultdict(float)
        for (meter, component, _share), joules in parts.energy.items():
            by_component[meter, component] += joules
        total = _sum(by_component.values())
        ratio, basis = self._uncertainties.gain(by_component), "sensors' gain"
        if scope != "total" and total > 0.0 and parts.uncertainty:
            # In a total, errors of the division cancel: one request's excess is another's deficit.
            ratio = quadrature(ratio, _sum(parts.uncertainty.values()) / total)
            basis = "sensors' gain and, at most, the division among requests"
        amounts["energy"] = with_range(total, "J", ratio, basis)
        for share in ("active", "idle"):
            joules = _sum(value for key, value in parts.energy.items() if key[2] == share)
            amounts[f"{share}_energy"] = Amount(joules, "J", basis=share)
        return ratio

    def _add_grams(self, amounts: dict[str, Amount], gain: float | None, parts: _Parts) -> None:
        by_meter: dict[str, float] = defaultdict(float)
        embodied = []
        for (meter, scope), value in parts.grams.items():
            if scope == "operational":
                by_meter[meter] += value
            else:
                embodied.append(value)
        amounts["co2e_operational"] = (
            with_range(
                _sum(by_meter.values()), "g", quadrature(gain, self._uncertainties.grid(by_meter)),
                "location-based; energy and grid intensity",
            )
            if by_meter
            else absent("g", UNKNOWN)
        )  # fmt: skip
        amounts["co2e_embodied"] = (
            Amount(_sum(embodied), "g", basis="embodied, amortised by time in flight")
            if self._configured.embodied and embodied
            else absent("g", UNKNOWN if self._configured.embodied else NOT_CONFIGURED)
        )
        for name, found, basis in (
            ("co2e_market", parts.market if self._configured.market else {}, "market-based; energy"),
            ("co2e_marginal", parts.marginal, "marginal intensity; energy"),
        ):
            amounts[name] = (
                with_range(_sum(found.values()), "g", gain, basis) if found else absent("g", NOT_CONFIGURED)
            )

    def _add_water(self, amounts: dict[str, Amount], gain: float | None, water: _Sum) -> None:
        if not water:
            names = ("water", "water_onsite", "water_offsite")
            amounts |= dict.fromkeys(names, absent("L", UNKNOWN))
            return
        onsite = _sum(value for (_, scope), value in water.items() if scope == "onsite")
        by_meter: dict[str, float] = defaultdict(float)
        for (meter, scope), value in water.items():
            if scope == "offsite":
                by_meter[meter] += value
        amounts |= water_amounts(onsite, by_meter, gain, self._uncertainties, cooled=self._cooled)

    def _add_intensities(self, amounts: dict[str, Amount], labels: Mapping[str, str]) -> None:
        """Add figures per request and per million tokens, SCI (needs embodied emissions), and ESS of a model."""
        requests = amounts["requests"].value
        tokens_in, tokens_out = amounts["input_tokens"].value, amounts["output_tokens"].value
        tokens = (tokens_in or 0.0) + (tokens_out or 0.0)
        amounts["energy_per_request"] = amounts["energy"].per(requests, "J/request")
        amounts["co2e_per_request"] = amounts["co2e_operational"].per(requests, "g/request")
        amounts["water_per_request"] = amounts["water"].per(requests, "L/request")
        amounts["energy_per_million_tokens"] = amounts["energy"].per(tokens / 1e6, "J/million tokens", "no tokens")
        emitted = amounts["co2e_operational"].plus(amounts["co2e_embodied"])
        amounts["sci_per_request"] = emitted.per(requests, "g/request")
        amounts["sci_per_million_tokens"] = emitted.per(tokens / 1e6, "g/million tokens", "no tokens")
        sizes = self._parameters.get((labels.get("model", ""), labels.get("framework", "")), set())
        why = "several sizes" if len(sizes) > 1 else "size unknown"
        amounts["ess"] = (
            _score(next(iter(sizes)), requests, amounts["co2e_operational"])
            if len(sizes) == 1
            else absent("million parameters/g", why)
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


def _counted(parts: _Sum, unit: str, kind: str | None = None) -> Amount:
    if not parts:
        return absent(unit, "none counted")
    return Amount(
        _sum(value for key, value in parts.items() if kind is None or key[0] == kind), unit, basis="count"
    )


def _sum(values: Iterable[float]) -> float:
    return math.fsum(values)
