"""Every factor in use with its value, unit, basis, source and year, for audits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import NamedTuple

from ecolyzer_otel.impact.embodied import Embodied
from ecolyzer_otel.impact.place import Place

__all__ = ["Factor", "factors_of", "time_of"]


class Factor(NamedTuple):
    """One factor, as the labels of ``ecolyzer_factor_info``. ``year`` is a year, a time (ISO 8601) or ""."""

    kind: str
    zone: str
    value: str
    unit: str
    basis: str
    source: str
    year: str


def factors_of(place: Place, embodied: Embodied) -> Iterator[Factor]:
    """The factors of a place and of the hardware."""
    live = place.time_s is not None
    estimated = ", estimated" if place.estimated else ""
    defaulted = ", place not configured" if place.defaulted else ""
    # A live figure changes every few minutes: its value and time are gauges, not labels.
    yield Factor(
        "carbon",
        place.zone,
        "" if live else f"{place.grams_per_kwh:g}",
        "gCO2e/kWh",
        f"{place.basis}{estimated}{defaulted}",
        place.source_detail,
        "live" if live else str(place.year),
    )
    yield Factor(
        "water",
        place.water_zone,
        f"{place.ewif:g} ({place.water_low:.3g} to {place.water_high:.3g})",
        "L/kWh",
        place.water_method,
        place.water_source,
        "" if place.water_year is None else str(place.water_year),
    )
    yield Factor("pue", place.zone, f"{place.pue:g}", "1", "", place.pue_source, "")
    yield Factor("wue", place.zone, f"{place.wue:g}", "L/kWh of IT", "", place.wue_source, "")
    if place.marginal is not None:
        yield Factor("marginal", place.marginal_zone, "", "gCO2/kWh", "marginal", place.marginal_detail, "live")
    if place.market is not None:
        yield Factor("market", place.zone, f"{place.market:g}", "gCO2e/kWh", "contractual", place.market_source, "")
    for part in embodied.parts:
        reserved = f", {part.reserved:g} of it reserved" if part.reserved != 1.0 else ""
        basis = f"{part.boundary}; over {part.lifetime_years:g} years{reserved}"
        yield Factor(f"embodied_{part.name}", "", f"{part.kilograms:g}", "kgCO2e", basis, part.source, "")


def time_of(place: Place) -> str:
    """The time in UTC that a live carbon figure is valid for; "" for the figure of a year."""
    if place.time_s is None:
        return ""
    return datetime.fromtimestamp(place.time_s, timezone.utc).strftime("%Y-%m-%dT%H:%MZ")
