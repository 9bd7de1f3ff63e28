"""A year like the days that were observed: the mean, and how far it may be off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.report.figures import Tables
from ecolyzer_otel.report.observations import Observations, SiteTotal
from ecolyzer_otel.report.ranges import COVERAGE, Amount

__all__ = ["Projection", "project"]

_DAY: Final = 86400.0
_YEAR: Final = 365.25 * _DAY
#: Shorter observations are no rate at all.
_SHORTEST: Final = 600.0
#: What is projected, and the counter (and label value) that tells it day by day.
_OVER_TIME: Final[dict[str, tuple[str, str]]] = {
    "requests": (Metric.REQUESTS.stem, ""),
    "energy": (Metric.ENERGY.stem, ""),
    "co2e_operational": (Metric.CO2E.stem, "operational"),
    "co2e_market": (Metric.MARKET_CO2E.stem, ""),
    "co2e_embodied": (Metric.CO2E.stem, "embodied"),
    "water": (Metric.WATER.stem, ""),
    "device_energy": (Metric.DEVICE_ENERGY.stem, ""),
    "device_co2e_operational": (SiteTotal.GRAMS, ""),
}
#: Two-sided 95 % quantiles of Student's t by degrees of freedom (2 from 60 on).
_STUDENT: Final = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)


@dataclass(frozen=True, slots=True)
class Projection:
    """Amounts of a year by quantity, and what they rest on. ``refused`` says why there are none."""

    amounts: Mapping[str, Amount]
    seconds: float
    days: int
    variation: float | None
    assumptions: tuple[str, ...]
    refused: str = ""


def project(seen: Observations, tables: Tables) -> Projection:
    """The figures of the observed time, carried on for a year."""
    covered = seen.covered
    seconds = covered[-1][1] - covered[0][0] if covered else 0.0
    if seconds < _SHORTEST:
        why = f"only {seconds:.0f} s were observed; a year needs at least {_SHORTEST:.0f} s, better two weeks"
        return Projection({}, seconds, 0, None, (), why)
    heard = sum(end - start for start, end in covered) / seconds
    first, last = math.ceil(covered[0][0] / _DAY), math.floor(covered[-1][1] / _DAY)
    amounts, variations = {}, {}
    for name, (stem, told) in _OVER_TIME.items():
        amount = (tables.site if name.startswith("device_") else tables.total.amounts)[name.removeprefix("device_")]
        variations[name] = _variation(_daily(seen, stem, told, first, last))
        amounts[name] = _carried(amount, _YEAR / seconds, variations[name], heard)
    days = max(0, last - first)
    return Projection(amounts, seconds, days, variations["energy"], _assumptions(days, variations["energy"], heard))


def _daily(seen: Observations, stem: str, told: str, first: int, last: int) -> list[float]:
    """What grew on each whole UTC day of the observed time."""
    days = dict.fromkeys(range(first, last), 0.0)
    for start, parts in seen.bins.items():
        day = math.floor(start / _DAY)
        if day in days:
            days[day] += math.fsum(value for key, value in parts.items() if key[0] == stem and told in ("", key[1]))
    return list(days.values())


def _variation(daily: list[float]) -> float | None:
    """Half of the mean day's 95 % interval as a part of it: Student's t over the days, taken as independent."""
    mean = math.fsum(daily) / len(daily) if daily else 0.0
    if len(daily) < 2 or not mean > 0.0:
        return None
    variance = math.fsum((value - mean) ** 2 for value in daily) / (len(daily) - 1)
    freedom = len(daily) - 1
    quantile = _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else COVERAGE if freedom >= 60 else 2.1
    return quantile * math.sqrt(variance / len(daily)) / mean


def _carried(amount: Amount, scale: float, variation: float | None, heard: float) -> Amount:
    if amount.value is None:
        return amount
    value = amount.value * scale
    if variation is None or not value > 0.0:
        return Amount(value, amount.unit, basis="rate of the observed time; no range from so short a time")
    # On the logarithm like all ranges, so that a restless week does not reach below 0.
    half = math.log1p(variation)
    below = math.log(amount.value / amount.low) if amount.low else 0.0
    above = math.log(amount.high / amount.value) if amount.high else 0.0
    low, high = value * math.exp(-math.hypot(half, below)), value * math.exp(math.hypot(half, above))
    if heard < 0.99:
        high /= heard
    if amount.low is None and amount.unit != "requests":
        # A range of the days alone would pass for a range of the figure.
        return Amount(value, amount.unit, basis="days; the uncertainty of the figure itself is not known")
    return Amount(value, amount.unit, low, high, "days and factors" if amount.low else "days")


def _assumptions(days: int, variation: float | None, heard: float) -> tuple[str, ...]:
    told = [
        "A year of 365.25 days like the observed time, with the same hardware, load and factors: no growth, no "
        "season, no change of the grid.",
        "Time inside it without figures counts as time without consumption.",
    ]
    if variation is None:
        told.append(
            "Less than two whole days (UTC) were observed: this is a rate, not a forecast. Nights and weekends are "
            "not in it, and how much days differ is not known."
        )
    else:
        told.append(
            f"The range holds how much {days} whole days differed (Student's t on the mean of independent "
            "days) and the uncertainty of the figures themselves, in quadrature."
        )
        if days < 14:
            told.append("Fewer than 14 days: working days and weekends may not be in proportion.")
    if heard < 0.99:
        told.append(
            f"Only {heard:.0%} of the observed time is covered; the upper ends allow for as much consumption in "
            "the gaps."
        )
    return tuple(told)
