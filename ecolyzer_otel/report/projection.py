"""The projection of the observed mean to a year, with its range."""

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
#: Shorter observations are not projected.
_MIN_SECONDS: Final = 600.0
#: The projected quantities, with the counter (and label value) that holds each day by day.
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
    """Amounts of a year by quantity, and their basis.

    ``seconds`` and whole ``days`` were observed. ``variation`` is half of the 95 % interval of the mean day, as a
    part of it; None below two whole days. ``refused`` is the reason if there is no projection.
    """

    amounts: Mapping[str, Amount]
    seconds: float
    days: int
    variation: float | None
    assumptions: tuple[str, ...]
    refused: str = ""


def project(observed: Observations, tables: Tables) -> Projection:
    """Project the figures of the observed time to a year."""
    covered = observed.covered
    seconds = covered[-1].end - covered[0].start if covered else 0.0
    if seconds < _MIN_SECONDS:
        refused = f"only {seconds:.0f} s were observed; at least {_MIN_SECONDS:.0f} s are needed, better two weeks"
        return Projection({}, seconds, 0, None, (), refused)
    coverage = sum(span.end - span.start for span in covered) / seconds
    first, last = math.ceil(covered[0].start / _DAY), math.floor(covered[-1].end / _DAY)
    amounts, variations = {}, {}
    for name, (stem, label_value) in _OVER_TIME.items():
        amount = (tables.site if name.startswith("device_") else tables.total.amounts)[name.removeprefix("device_")]
        variations[name] = _variation(_daily(observed, stem, label_value, first, last))
        amounts[name] = _extrapolated(amount, _YEAR / seconds, variations[name], coverage)
    days = max(0, last - first)
    return Projection(
        amounts, seconds, days, variations["energy"], _assumptions(days, variations["energy"], coverage)
    )


def _daily(observed: Observations, stem: str, label_value: str, first: int, last: int) -> list[float]:
    """The increase on each whole UTC day of the observed time."""
    days = dict.fromkeys(range(first, last), 0.0)
    for start in observed.bins:
        day = math.floor(start / _DAY)
        if day in days:
            days[day] += observed.in_bin(start, stem, label_value)
    return list(days.values())


def _variation(daily: list[float]) -> float | None:
    """Half of the 95 % interval of the mean day, as a part of it: Student's t, the days taken as independent."""
    mean = math.fsum(daily) / len(daily) if daily else 0.0
    if len(daily) < 2 or not mean > 0.0:
        return None
    variance = math.fsum((value - mean) ** 2 for value in daily) / (len(daily) - 1)
    freedom = len(daily) - 1
    quantile = _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else COVERAGE if freedom >= 60 else 2.1
    return quantile * math.sqrt(variance / len(daily)) / mean


def _extrapolated(amount: Amount, scale: float, variation: float | None, coverage: float) -> Amount:
    if amount.value is None:
        return amount
    value = amount.value * scale
    if variation is None or not value > 0.0:
        return Amount(value, amount.unit, basis="rate of the observed time; too short for a range")
    # On the logarithm like all ranges, so that days that differ much do not give a range below 0.
    half = math.log1p(variation)
    below = math.log(amount.value / amount.low) if amount.low else 0.0
    above = math.log(amount.high / amount.value) if amount.high else 0.0
    low, high = value * math.exp(-math.hypot(half, below)), value * math.exp(math.hypot(half, above))
    if coverage < 0.99:
        high /= coverage
    if amount.low is None and amount.unit != "requests":
        # A range from the days alone would be mistaken for the range of the figure.
        return Amount(value, amount.unit, basis="days; the uncertainty of the figure itself is unknown")
    return Amount(value, amount.unit, low, high, "days and factors" if amount.low else "days")


def _assumptions(days: int, variation: float | None, coverage: float) -> tuple[str, ...]:
    texts = [
        "A year of 365.25 days with the hardware, load and factors of the observed time: no growth, no seasons, no "
        "change of the grid.",
        "Gaps in the observed time count as time without consumption.",
    ]
    if variation is None:
        texts.append(
            "Less than two whole days (UTC) were observed: this is a rate, not a forecast. It does not represent "
            "nights and weekends, and the variation between days is unknown."
        )
    else:
        texts.append(
            f"The range combines the variation between {days} whole days (Student's t on the mean of independent "
            "days) and the uncertainty of the figures themselves, in quadrature."
        )
        if days < 14:
            texts.append("Fewer than 14 days: working days and weekends may not be in proportion.")
    if coverage < 0.99:
        texts.append(
            f"Only {coverage:.0%} of the observed time is covered; the upper ends allow for the same rate of "
            "consumption in the gaps."
        )
    return tuple(texts)
