"""Uncertainty of the factors, as relative standard uncertainties (sigma of the logarithm).

Publishers of grid factors state none. Yearly figures use the pedigree matrix of ecoinvent 2, which the GHG
Protocol's "Quantitative Uncertainty Guidance" adopted (as transcribed in the package ``pedigree-matrix`` 0.2.2):
95 % factors U by expert judgement (the true value lies between the figure / U and the figure x U), combined as
``exp(sqrt(sum of ln(U)^2))``. The ranges of water, and of an unknown place, come from the spread of our own tables.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

from ecolyzer_otel.impact.tables import GridRow, WaterRow, grid_table

__all__ = ["carbon_uncertainty", "live_uncertainty", "pedigree", "water_range", "world_spread"]

#: Basic uncertainty of emissions of electricity.
_BASIC: Final = 1.05
#: Reliability: a published statistic, and a figure derived from a mix by medians of technologies.
_PUBLISHED, _DERIVED = 1.0, 1.2
#: Temporal representativeness by years of age: below 3, 6, 10, and above.
_AGES: Final = ((3, 1.0), (6, 1.1), (10, 1.2))
_OLD: Final = 1.5
#: A figure of a larger area that contains the place (EU).
_LARGER_AREA: Final = 1.1
#: The two methods for a water factor differ by a factor of 1.7 at the median and 3.1 at the 90th percentile of
#: the 50 rows that have both.
_WATER_TYPICAL, _WATER_WIDE = 1.7, 3.1


def pedigree(*factors: float) -> float:
    """The combined relative standard uncertainty of 95 % factors: ``sqrt(sum of ln(U)^2) / 2``."""
    return math.sqrt(math.fsum(math.log(factor) ** 2 for factor in factors)) / 2.0


def carbon_uncertainty(row: GridRow, year: int) -> float:
    """The uncertainty of a yearly average used in ``year``: of the average itself, not of the hour of the day.

    The world's average is used for an unknown place: its uncertainty is the spread of all countries.
    """
    if row.zone == "WORLD":
        return world_spread()
    age = max(0, year - row.year)
    temporal = next((factor for limit, factor in _AGES if age < limit), _OLD)
    area = _LARGER_AREA if row.level == "aggregate" else 1.0
    return pedigree(_BASIC, _DERIVED if row.estimated else _PUBLISHED, temporal, area)


def live_uncertainty(*, estimated: bool) -> float:
    """The uncertainty of a live figure whose source reports none."""
    return pedigree(_BASIC, _DERIVED if estimated else _PUBLISHED)


@cache
def world_spread() -> float:
    """Root mean square of ln(country / WORLD) over all countries of the table."""
    table = grid_table()
    world = table["WORLD"].grams_per_kwh
    logs = [math.log(row.grams_per_kwh / world) ** 2 for row in table.values() if row.level == "country"]
    return math.sqrt(math.fsum(logs) / len(logs))


def water_range(row: WaterRow, litres_per_kwh: float, *, fallback: bool) -> tuple[float, float]:
    """The range of the true figure in litres per kWh, at about 95 % confidence.

    A published figure: a factor of 1.7 both ways, extended to the figure derived for the same zone. A derived
    figure, or one of another zone: a factor of 3.1.

    Args:
        row: the row of the figure.
        litres_per_kwh: the figure in use.
        fallback: whether it is the figure of another zone.
    """
    own = not fallback and row.zone != "WORLD"  # the world's average is used for an unknown place
    published = row.method == "published" and litres_per_kwh == row.litres_per_kwh and own
    factor = _WATER_TYPICAL if published else _WATER_WIDE
    low, high = litres_per_kwh / factor, litres_per_kwh * factor
    if published and row.derived is not None:
        low, high = min(low, row.derived), max(high, row.derived)
    return low, high
