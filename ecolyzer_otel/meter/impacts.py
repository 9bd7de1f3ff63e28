"""The impact of settlements: each joule at the factors of its period, each second with its part of the hardware."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from ecolyzer_otel.impact.embodied import Embodied
from ecolyzer_otel.impact.impact import Impact, compute_impact, sum_impacts
from ecolyzer_otel.impact.place import Place
from ecolyzer_otel.ledger import Charge, Settlement

__all__ = ["Assessment", "assess", "joules_by_period"]


class Assessment(msgspec.Struct, frozen=True):
    """The impact of one settlement, and the factors that it was computed from.

    Attributes:
        impact: grams and litres.
        place: the place of its last joules.
        grams_per_kwh: mean intensity over its joules; None where they have one intensity, that of ``place``.
        embodied: emissions of the hardware by sensor.
    """

    impact: Impact
    place: Place
    grams_per_kwh: float | None
    embodied: Embodied

    def uncertainty(self, settlement: Settlement) -> tuple[float, float, float]:
        """Returns one standard uncertainty of the grams, and the lowest and highest litres.

        Both include the uncertainty of the settlement's joules.
        """
        joules = settlement.joules
        energy = settlement.uncertainty_joules / joules if joules > 0.0 else 0.0
        grams = self.impact.uncertainty_grams(energy, self.place.uncertainty, self.embodied.uncertainty)
        low, high = self.impact.range_liters(energy, self.place)
        return grams, low, high


def assess(charges: Sequence[Charge], place_of: Callable[[int], Place], embodied: Embodied) -> Assessment:
    """Returns the impact of the charges of one request.

    Args:
        charges: one for each sensor that charges it.
        place_of: returns the factors of a period by its number.
        embodied: emissions of the hardware by sensor.
    """
    made = embodied.grams((charge.sensor, charge.seconds) for charge in charges) if embodied.by_sensor else None
    first = charges[0].period if charges else 0
    joules, alike = 0.0, True
    for charge in charges:
        joules += charge.active + charge.idle
        alike = alike and charge.period == first and not charge.earlier
    if alike:  # nearly always
        place = place_of(first)
        return Assessment(compute_impact(max(0.0, joules), place, embodied_grams=made), place, None, embodied)
    periods = joules_by_period(charges)
    parts = [
        compute_impact(max(0.0, joules), place_of(period), embodied_grams=made if number == 0 else None)
        for number, (period, joules) in enumerate(periods.items())
    ]
    place = place_of(max(periods))
    total = math.fsum(periods.values())
    mean = math.fsum(joules * place_of(period).grams_per_kwh for period, joules in periods.items())
    return Assessment(sum_impacts(parts), place, mean / total if total > 0.0 else None, embodied)


def joules_by_period(charges: Sequence[Charge]) -> dict[int, float]:
    """Returns joules, active and idle, by the period of the factors in which they were drawn."""
    periods: dict[int, float] = {}
    for charge in charges:
        rest = charge.joules
        for period, joules in charge.earlier:
            periods[period] = periods.get(period, 0.0) + joules
            rest -= joules
        periods[charge.period] = periods.get(charge.period, 0.0) + rest
    return periods
